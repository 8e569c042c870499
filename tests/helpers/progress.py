"""A progress object that remembers what it was told."""

from __future__ import annotations

from tinyvit.progress import NullProgress


class RecordedProgress(NullProgress):
    """Remembers messages and counts calls of `advance`."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.advances = 0

    def message(self, text: str) -> None:
        self.messages.append(text)

    def advance(self, description: str, done: int, total: int) -> None:
        self.advances += 1
