"""A `Progress` that keeps what it receives, so that tests can read it."""

from __future__ import annotations


class RecordedProgress:
    """Keeps messages and steps.

    Attributes:
        messages: The text of every message.
        steps: (description, done, total) of every step.
    """

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.steps: list[tuple[str, int, int]] = []

    def message(self, text: str) -> None:
        """Keep a message."""
        self.messages.append(text)

    def advance(self, description: str, done: int, total: int) -> None:
        """Keep a step."""
        self.steps.append((description, done, total))

    @property
    def done(self) -> list[int]:
        """The number of finished steps of every call."""
        return [done for _, done, _ in self.steps]


class InterruptingProgress(RecordedProgress):
    """Raises KeyboardInterrupt the first time that each of some steps is done."""

    def __init__(self, *interrupted_steps: int) -> None:
        super().__init__()
        self._interrupted_steps = set(interrupted_steps)

    def advance(self, description: str, done: int, total: int) -> None:
        """Keep a step, and interrupt the work after some."""
        super().advance(description, done, total)
        if done in self._interrupted_steps:
            self._interrupted_steps.remove(done)
            raise KeyboardInterrupt
