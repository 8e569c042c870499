"""Progress of long work: messages, and counts of the steps of the current task.

Library code takes a `Progress` as an argument and never prints. Commands create it with
`make_progress`: it draws a bar on a terminal, writes a line every few seconds to a file or pipe,
and shows nothing if the command prints JSON.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from tinyvit.safe_text import escape_text, print_lines
from tinyvit.stop_signals import raise_if_stopped

LOG_INTERVAL_S = 5.0
"""Shortest time between two lines about one task, if the output is not a terminal."""

_BAR_WIDTH = 24
"""Number of characters between the brackets of a bar."""


class Progress(Protocol):
    """Receives the progress of long work. Only one thread at a time may call the methods.

    All methods raise KeyboardInterrupt if the command was stopped by a signal, but has not ended.
    """

    def message(self, text: str) -> None:
        """Show a message, for example that a task begins, or a result.

        Args:
            text: One line of plain text without a newline.
        """
        ...

    def advance(self, description: str, done: int, total: int) -> None:
        """Show how many steps of a task are finished.

        Args:
            description: Name of the task, the same in every call for one task.
            done: Number of finished steps, 0 to `total`.
            total: Number of all steps, at least 1.
        """
        ...


class NullProgress:
    """Progress that shows nothing at all."""

    def message(self, text: str) -> None:
        """Ignore the message; show nothing.

        Args:
            text: One line of plain text.
        """
        raise_if_stopped()

    def advance(self, description: str, done: int, total: int) -> None:
        """Ignore the count; show nothing.

        Args:
            description: Name of the task.
            done: Number of finished steps.
            total: Number of all steps.
        """
        raise_if_stopped()


class LogProgress:
    """Progress as lines of text: every message, and a count every `LOG_INTERVAL_S` seconds."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        """Store the stream to which lines are written.

        Args:
            stream: A text stream, usually standard error.
            clock: Function that returns the seconds of a monotonic clock; tests replace it.
        """
        self._stream = stream
        self._clock = clock
        self._last_line_s = -LOG_INTERVAL_S  # so that the first count is written at once

    def message(self, text: str) -> None:
        """Write the message as a line.

        Args:
            text: One line of plain text.
        """
        raise_if_stopped()
        _print_line(f"  {text}", self._stream)
        self._last_line_s = self._clock()

    def advance(self, description: str, done: int, total: int) -> None:
        """Write a line if this is the last step or the last line is `LOG_INTERVAL_S` seconds old.

        Args:
            description: Name of the task.
            done: Number of finished steps.
            total: Number of all steps.
        """
        raise_if_stopped()
        now_s = self._clock()
        if done < total and now_s - self._last_line_s < LOG_INTERVAL_S:
            return
        self._last_line_s = now_s
        _print_line(f"  {description}: {done}/{total}", self._stream)


class TerminalProgress:
    """Progress as a bar that is redrawn in place, for a terminal."""

    def __init__(self, stream: TextIO) -> None:
        """Store the terminal on which the bar is drawn.

        Args:
            stream: A text stream that is a terminal.
        """
        self._stream = stream
        self._drawn_line = ""

    def message(self, text: str) -> None:
        """Finish the bar, if one is drawn, and write the message below it.

        Args:
            text: One line of plain text.
        """
        raise_if_stopped()
        self._end_bar()
        _print_line(f"  {text}", self._stream)

    def advance(self, description: str, done: int, total: int) -> None:
        """Redraw the bar if it has changed. After the last step, it stays on the screen.

        Args:
            description: Name of the task.
            done: Number of finished steps.
            total: Number of all steps.
        """
        raise_if_stopped()
        filled = _BAR_WIDTH * done // total
        bar = "#" * filled + "-" * (_BAR_WIDTH - filled)
        line = f"  {escape_text(description)} [{bar}] {100 * done // total:3d}%"
        if line != self._drawn_line:
            padding = " " * max(0, len(self._drawn_line) - len(line))
            self._stream.write(f"\r{line}{padding}")
            self._stream.flush()
            self._drawn_line = line
        if done >= total:
            self._end_bar()

    def _end_bar(self) -> None:
        if self._drawn_line:
            self._stream.write("\n")
            self._stream.flush()
            self._drawn_line = ""


def make_progress(*, json_output: bool = False, stream: TextIO | None = None) -> Progress:
    """Choose how a command shows progress.

    Args:
        json_output: Whether the command prints JSON. Progress is then not shown.
        stream: Stream that progress is written to; standard error by default.

    Returns:
        A `NullProgress` for JSON output, a `TerminalProgress` if `stream` is a terminal, otherwise
        a `LogProgress`.
    """
    stream = sys.stderr if stream is None else stream
    if json_output:
        return NullProgress()
    return TerminalProgress(stream) if stream.isatty() else LogProgress(stream)


def _print_line(line: str, stream: TextIO) -> None:
    """Print an escaped line, which appears at once even in a file or a pipe."""
    print_lines(line, stream=stream)
    stream.flush()
