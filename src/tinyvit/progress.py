"""Progress of long work: messages, and counts of the steps of the current task.

Library code takes a `Progress` as an argument and never prints. Commands create it with
`make_progress`: it draws a bar on a terminal by means of the package rich, writes a line every few
seconds to a file or pipe, or if rich is not installed, and shows nothing if the command prints
JSON.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol, TextIO

from tinyvit.processes.stop_signals import raise_if_stopped
from tinyvit.text.safe_text import escape_for_stream, print_lines

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

LOG_INTERVAL_S = 5.0
"""Shortest time between two lines about one task, if the output is not a terminal."""

REFRESH_INTERVAL_S = 0.2
"""Shortest time between two drawings of the bar of one task, on a terminal."""

_BAR_WIDTH = 24
"""Characters of the bar."""

_NUMBERS_WIDTH = 18
"""Characters beside the bar: the percentage, the remaining time, and spaces."""

_MIN_DESCRIPTION_WIDTH = 20
"""Characters of the description that are shown even on a narrow terminal."""

_TERMINALS_WITHOUT_CURSOR = ("dumb", "unknown")
"""Values of the environment variable TERM for terminals that cannot redraw a line."""

_started: list[RichProgress] = []
"""What `make_progress` has returned for terminals since the last call of `end_progress`."""


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
        percent = 100 * done // total
        _print_line(f"  {description}: {done}/{total} ({percent}%)", self._stream)


class RichProgress:
    """Progress as a bar with a percentage, drawn by the package rich on a terminal.

    The bar is drawn only by calls of the methods and at most a few times per second, and not by a
    thread, which would disturb the measurements of latencies.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        """Store the terminal on which the bar is drawn.

        Args:
            stream: A text stream that is a terminal.
            clock: Function that returns the seconds of a monotonic clock; tests replace it.
        """
        from rich.console import Console

        self._stream = stream
        self._console = Console(file=stream, force_terminal=True, highlight=False)
        self._clock = clock
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._description = ""
        self._last_refresh_s = 0.0

    def message(self, text: str) -> None:
        """Finish the bar, if one is drawn, and write the message below it.

        Args:
            text: One line of plain text.
        """
        raise_if_stopped()
        self.end()
        _print_line(f"  {text}", self._stream)

    def advance(self, description: str, done: int, total: int) -> None:
        """Redraw the bar, unless that was done just before. After the last step, it stays visible.

        Args:
            description: Name of the task.
            done: Number of finished steps.
            total: Number of all steps.
        """
        raise_if_stopped()
        now_s = self._clock()
        if self._bar is None or description != self._description:
            self._start(description, total)
        elif done < total and now_s - self._last_refresh_s < REFRESH_INTERVAL_S:
            return
        assert self._bar is not None
        assert self._task is not None
        self._last_refresh_s = now_s
        self._bar.update(self._task, completed=done, total=total, refresh=True)
        if done >= total:
            self.end()

    def end(self) -> None:
        """End the bar, if one is drawn, and show the cursor again."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _start(self, description: str, total: int) -> None:
        """Draw the bar of another task below the last one."""
        from rich import progress as rich_progress

        self.end()
        self._description = description
        self._bar = rich_progress.Progress(
            rich_progress.TextColumn("  {task.description}", markup=False),
            rich_progress.BarColumn(_BAR_WIDTH),
            rich_progress.TaskProgressColumn(),
            rich_progress.TimeRemainingColumn(),
            console=self._console,
            auto_refresh=False,
            # Standard output may lead to a file; the terminal must not get its lines.
            redirect_stdout=False,
        )
        self._task = self._bar.add_task(self._shorten(description), total=total)
        self._bar.start()

    def _shorten(self, description: str) -> str:
        """Return a description in printable characters that leaves space for the percentage."""
        text = escape_for_stream(description, self._stream)
        length = max(self._console.width - _BAR_WIDTH - _NUMBERS_WIDTH, _MIN_DESCRIPTION_WIDTH)
        return text if len(text) <= length else f"{text[: length - 3]}..."


def make_progress(*, json_output: bool = False, stream: TextIO | None = None) -> Progress:
    """Choose how a command shows progress.

    Args:
        json_output: Whether the command prints JSON. Progress is then not shown.
        stream: Stream that progress is written to; standard error by default.

    Returns:
        A `NullProgress` for JSON output; a `RichProgress` if `stream` is a terminal of Unicode that
        can redraw lines, and the package rich is installed; otherwise a `LogProgress`.
    """
    stream = sys.stderr if stream is None else stream
    if json_output:
        return NullProgress()
    if _can_redraw(stream) and find_spec("rich") is not None:
        progress = RichProgress(stream)
        if not _started:
            # The bar hides the cursor, which must be visible again when the process ends.
            atexit.register(end_progress)
        _started.append(progress)
        return progress
    return LogProgress(stream)


def _can_redraw(stream: TextIO) -> bool:
    """Return whether a stream is a terminal with a cursor, and can show the characters of rich."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    has_cursor = os.environ.get("TERM") not in _TERMINALS_WITHOUT_CURSOR
    return stream.isatty() and has_cursor and encoding.lower().startswith("utf")


def end_progress() -> None:
    """End every bar, so that the next line is printed below it, for example after an error."""
    while _started:
        _started.pop().end()


def _print_line(line: str, stream: TextIO) -> None:
    """Print an escaped line, which appears at once even in a file or a pipe."""
    print_lines(line, stream=stream)
    stream.flush()
