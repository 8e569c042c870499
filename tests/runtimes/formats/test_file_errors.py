"""Errors of damaged files are about the file, not about Python's modules."""

from __future__ import annotations

import struct
from pathlib import Path

from tinyvit.runtimes.formats.file_errors import damaged_error


def test_a_position_outside_of_the_file_is_named_as_such() -> None:
    try:
        struct.unpack_from("<I", b"", 8)
    except struct.error as error:
        message = str(damaged_error(Path("a.tflite"), error))
    assert message == (
        "a.tflite is damaged or incomplete (a position in it is outside of the file): export it"
        " again"
    )


def test_other_reasons_are_kept() -> None:
    error = damaged_error(Path("a.tflite"), ValueError("it has two networks"))
    assert str(error) == "a.tflite is damaged or incomplete (it has two networks): export it again"
