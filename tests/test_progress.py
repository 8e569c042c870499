"""Progress is a bar on a terminal, lines in a log, and nothing beside JSON."""

from __future__ import annotations

import io

from tinyvit.progress import (
    LOG_INTERVAL_S,
    LogProgress,
    NullProgress,
    TerminalProgress,
    make_progress,
)


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_has_every_message_and_few_counts() -> None:
    stream, now = io.StringIO(), [0.0]
    progress = LogProgress(stream, clock=lambda: now[0])
    progress.message("Calibrating")
    for done in range(1, 101):
        now[0] = done * LOG_INTERVAL_S / 50
        progress.advance("Images", done, 100)
    assert stream.getvalue().splitlines() == [
        "  Calibrating",
        "  Images: 50/100",
        "  Images: 100/100",
    ]


def test_a_terminal_redraws_one_bar_and_then_ends_the_line() -> None:
    stream = FakeTerminal()
    progress = TerminalProgress(stream)
    progress.advance("Images", 1, 2)
    progress.advance("Images", 2, 2)
    progress.message("Done")
    half, full = f"  Images [{'#' * 12}{'-' * 12}]  50%", f"  Images [{'#' * 24}] 100%"
    assert stream.getvalue() == f"\r{half}\r{full}\n  Done\n"


def test_the_stream_decides_how_progress_is_shown() -> None:
    assert isinstance(make_progress(stream=FakeTerminal()), TerminalProgress)
    assert isinstance(make_progress(stream=io.StringIO()), LogProgress)
    assert isinstance(make_progress(json_output=True, stream=FakeTerminal()), NullProgress)
