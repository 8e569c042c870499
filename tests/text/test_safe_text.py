"""No character that acts on a terminal is printed, and suggested commands can be copied."""

from __future__ import annotations

import io
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.helpers.hostile_text import HOSTILE_TEXT, has_control_characters
from tinyvit.errors import ArtifactError
from tinyvit.progress import LogProgress, RichProgress
from tinyvit.text.safe_text import escape_text, print_lines, quote_argument, quote_word


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain text, é, 猫", "plain text, é, 猫"),
        ("\x1b[2J\x07", "\\u001b[2J\\u0007"),
        ("\x9b31m\x7f\x00", "\\u009b31m\\u007f\\u0000"),
        ("a\r\nerror: b\t", "a\\u000d\\u000aerror: b\\u0009"),
        ("\u202eexe.\u2066\u2028", "\\u202eexe.\\u2066\\u2028"),
        ("\ud800\udcff", "\\ud800\\udcff"),
        ("\U000e0041", "\\U000e0041"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_characters_that_are_not_printable_become_codes(text: str, escaped: str) -> None:
    assert escape_text(text) == escaped
    assert escape_text(escaped) == escaped


def test_no_character_of_unicode_is_printed_unless_it_is_printable() -> None:
    everything = "".join(map(chr, range(0x110000)))
    assert escape_text(everything).isprintable()


def test_lines_are_printed_in_the_encoding_of_the_stream() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
    print_lines("é\x1b", "second", stream=stream)
    stream.flush()
    assert stream.buffer.getvalue() == b"\\xe9\\u001b\nsecond\n"


def test_errors_have_no_control_characters_and_a_bounded_length() -> None:
    error = ArtifactError(HOSTILE_TEXT, "x" * 10_000_000)
    assert error.cause.startswith("a\\u001b[2J\\u001b]0;t\\u0007\\u009b1m ")
    assert not has_control_characters(str(error))
    assert len(error.remedy) == 2003


def test_lines_of_progress_have_no_control_characters() -> None:
    stream = io.StringIO()
    progress = LogProgress(stream)
    progress.message(HOSTILE_TEXT)
    progress.advance(HOSTILE_TEXT, 1, 1)
    assert not has_control_characters(stream.getvalue())
    assert len(stream.getvalue().splitlines()) == 2


def test_a_bar_has_no_control_characters_but_those_that_draw_it() -> None:
    pytest.importorskip("rich")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n")
    progress = RichProgress(stream)
    progress.message(HOSTILE_TEXT)
    progress.advance(HOSTILE_TEXT, 1, 1)
    stream.flush()
    output = stream.buffer.getvalue().decode()
    # Colors, the cursor, and the line that is drawn again.
    drawn = re.sub(r"\x1b\[([0-9;]*m|\?25[lh]|2K|1A)|\r", "", output)
    assert not has_control_characters(drawn)
    assert "100%" in drawn


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("C:\\models\\demo.onnx", "C:\\models\\demo.onnx"),
        ("tinyvit-edge[train]", '"tinyvit-edge[train]"'),
        ("C:\\Program Files\\python.exe", '"C:\\Program Files\\python.exe"'),
        ("it's & more", '"it\'s & more"'),
        ("%PATH%", "'%PATH%'"),
        ("it's $x", "'it''s $x'"),
        ("", '""'),
    ],
)
def test_words_are_quoted_for_cmd_and_powershell(text: str, quoted: str) -> None:
    assert quote_word(text, is_windows=True) == quoted


@pytest.mark.parametrize(
    "name",
    [
        *("a b", "it's", '"x"', "$(touch pwned)", "`touch pwned`", "-rf", "--", "a\nb", "~", "*"),
        *("\\", os.fsdecode(b"\xff;touch pwned")),
    ],
)
def test_a_shell_takes_a_quoted_argument_as_one_word(name: str, tmp_path: Path) -> None:
    line = f"printf %s {quote_argument(name)}"
    process = subprocess.run(["sh", "-c", line], capture_output=True, cwd=tmp_path, check=True)
    expected = f"./{name}" if name.startswith("-") else name
    assert os.fsdecode(process.stdout) == expected
    assert list(tmp_path.iterdir()) == []
