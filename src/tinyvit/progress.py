"""One interface for the progress of long work: messages about stages and counts of steps.

Library code takes a `Progress` and never prints. Commands choose how progress is shown with
`make_progress`: a bar on a terminal, a line every few seconds in a log, and nothing beside JSON
output.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol, TextIO

LOG_INTERVAL_S = 5.0
"""Seconds between two lines of one stage where the output is not a terminal."""

_BAR_WIDTH = 24


class Progress(Protocol):
    """Receives the progress of long work. Both methods are called from one thread at a time."""

    def message(self, text: str) -> None:
        """Report that a stage begins, or a result worth showing.

        Args:
            text: One line of plain text without a newline.
        """
        ...

    def advance(self, description: str, done: int, total: int) -> None:
        """Report how far a stage has come.

        Args:
            description: Name of the stage; constant while the stage lasts.
            done: Steps that are finished, 0 to `total`.
            total: All steps of the stage, at least 1.
        """
        ...


class NullProgress:
    """Progress that shows nothing at all."""

    def message(self, text: str) -> None:
        """Ignore the message; show nothing.

        Args:
            text: One line of plain text.
        """

    def advance(self, description: str, done: int, total: int) -> None:
        """Ignore the count; show nothing.

        Args:
            description: Name of the stage.
            done: Steps that are finished.
            total: All steps of the stage.
        """


class LogProgress:
    """Progress as lines of text: every message, and the first, the last and an occasional count."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to a text stream.

        Args:
            stream: Where lines are written, usually standard error.
            clock: Seconds of a monotonic clock; tests pass their own.
        """
        self._stream = stream
        self._clock = clock
        self._last_line_s = -LOG_INTERVAL_S

    def message(self, text: str) -> None:
        """Write the message as a line.

        Args:
            text: One line of plain text.
        """
        print(f"  {text}", file=self._stream, flush=True)
        self._last_line_s = self._clock()

    def advance(self, description: str, done: int, total: int) -> None:
        """Write a line for the last step, and otherwise at most one every `LOG_INTERVAL_S`.

        Args:
            description: Name of the stage.
            done: Steps that are finished.
            total: All steps of the stage.
        """
        now_s = self._clock()
        if done < total and now_s - self._last_line_s < LOG_INTERVAL_S:
            return
        self._last_line_s = now_s
        print(f"  {description}: {done}/{total}", file=self._stream, flush=True)


class TerminalProgress:
    """Progress as a bar that is redrawn in place, for a terminal."""

    def __init__(self, stream: TextIO) -> None:
        """Draw the bar on a terminal.

        Args:
            stream: A text stream that is a terminal.
        """
        self._stream = stream
        self._drawn = ""

    def message(self, text: str) -> None:
        """End the bar, if there is one, and write the message below it.

        Args:
            text: One line of plain text.
        """
        self._end_bar()
        print(f"  {text}", file=self._stream, flush=True)

    def advance(self, description: str, done: int, total: int) -> None:
        """Redraw the bar where it has changed, and leave it on the screen after the last step.

        Args:
            description: Name of the stage.
            done: Steps that are finished.
            total: All steps of the stage.
        """
        filled = _BAR_WIDTH * done // total
        bar = "#" * filled + "-" * (_BAR_WIDTH - filled)
        line = f"  {description} [{bar}] {100 * done // total:3d}%"
        if line != self._drawn:
            padding = " " * max(0, len(self._drawn) - len(line))
            print(f"\r{line}{padding}", end="", file=self._stream, flush=True)
            self._drawn = line
        if done >= total:
            self._end_bar()

    def _end_bar(self) -> None:
        if self._drawn:
            print(file=self._stream, flush=True)
            self._drawn = ""


def make_progress(*, json_output: bool = False, stream: TextIO | None = None) -> Progress:
    """Choose how a command shows progress.

    Args:
        json_output: Whether the command prints JSON; progress is then not shown.
        stream: Where progress is written; standard error by default.

    Returns:
        A bar on a terminal, lines on any other stream, nothing beside JSON.
    """
    stream = sys.stderr if stream is None else stream
    if json_output:
        return NullProgress()
    return TerminalProgress(stream) if stream.isatty() else LogProgress(stream)
