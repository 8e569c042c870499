"""Implementations of `Progress` that record calls, and that interrupt the work."""

from __future__ import annotations


class RecordedProgress:
    """Records messages and steps, so that a test can read them.

    Attributes:
        messages: The text of every message.
        steps: The arguments (description, done, total) of every call of `advance`.
    """

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.steps: list[tuple[str, int, int]] = []

    def message(self, text: str) -> None:
        """Record the text of a message."""
        self.messages.append(text)

    def advance(self, description: str, done: int, total: int) -> None:
        """Record that `done` of `total` steps are finished."""
        self.steps.append((description, done, total))

    @property
    def done(self) -> list[int]:
        """The number of finished steps that each call of `advance` stated."""
        return [done for _, done, _ in self.steps]


class InterruptingProgress(RecordedProgress):
    """Raises KeyboardInterrupt at some steps, once for each of them.

    Args:
        interrupted_steps: Numbers of finished steps at which the work is interrupted.
    """

    def __init__(self, *interrupted_steps: int) -> None:
        super().__init__()
        self._interrupted_steps = set(interrupted_steps)

    def advance(self, description: str, done: int, total: int) -> None:
        """Record a step, and raise KeyboardInterrupt if it is to be interrupted."""
        super().advance(description, done, total)
        if done in self._interrupted_steps:
            self._interrupted_steps.remove(done)
            raise KeyboardInterrupt
