"""Progress is a bar on a terminal, lines in a log, and nothing beside JSON."""

from __future__ import annotations

import io
import re
import sys

import pytest

from tinyvit.progress import (
    LOG_INTERVAL_S,
    LogProgress,
    NullProgress,
    RichProgress,
    end_progress,
    make_progress,
)

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


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
        "  Images: 50/100 (50%)",
        "  Images: 100/100 (100%)",
    ]


def remove_escape_sequences(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_terminal_redraws_one_bar_and_then_ends_the_line() -> None:
    pytest.importorskip("rich")
    stream, now = FakeTerminal(), [0.0]
    progress = RichProgress(stream, clock=lambda: now[0])
    for done in range(1, 201):
        now[0] += 0.01
        progress.advance("Images [b]", done, 200)
    progress.message("Done")
    output = stream.getvalue()
    assert output.endswith("  Done\n")
    assert output.rindex(SHOW_CURSOR) > output.rindex(HIDE_CURSOR)
    text = remove_escape_sequences(output)
    percentages = [int(number) for number in re.findall(r"Images \[b\] \S+ +(\d+)%", text)]
    assert sorted(set(percentages)) == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert text.splitlines()[-2].startswith("  Images [b] ")
    assert "100%" in text.splitlines()[-2]


def test_a_bar_of_a_command_that_fails_is_ended() -> None:
    pytest.importorskip("rich")
    stream = FakeTerminal()
    progress = make_progress(stream=stream)
    progress.advance("Images", 1, 2)
    assert stream.getvalue().count(SHOW_CURSOR) == 0
    end_progress()
    assert stream.getvalue().count(SHOW_CURSOR) == 1
    assert stream.getvalue().replace(SHOW_CURSOR, "").endswith("\n")


def test_a_terminal_without_rich_or_without_a_cursor_gets_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_progress(stream=FakeTerminal()), LogProgress)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "rich", None)
    assert isinstance(make_progress(stream=FakeTerminal()), LogProgress)


def test_a_terminal_without_unicode_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class AsciiTerminal(FakeTerminal):
        encoding = "ascii"

    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(make_progress(stream=AsciiTerminal()), LogProgress)


def test_the_stream_decides_how_progress_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    pytest.importorskip("rich")
    assert isinstance(make_progress(stream=FakeTerminal()), RichProgress)
    assert isinstance(make_progress(stream=io.StringIO()), LogProgress)
    assert isinstance(make_progress(json_output=True, stream=FakeTerminal()), NullProgress)
