"""The fields of protobuf messages, written here as literal bytes, are found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tinyvit.errors import ArtifactError
from tinyvit.runtimes.formats.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Field,
    FieldBudget,
    iterate_fields,
    open_file_bytes,
    read_file,
)


def test_fields_of_every_wire_type_are_read() -> None:
    message = (
        b"\x08\x96\x01"  # field 1 is the number 150
        b"\x12\x07testing"  # field 2 is a string
        b"\x1d\x01\x02\x03\x04"  # field 3 has four bytes
        b"\x21\x01\x02\x03\x04\x05\x06\x07\x08"  # field 4 has eight bytes
        b"\xa2\x06\x00"  # field 100 is an empty string
    )
    assert list(iterate_fields(message)) == [
        Field(1, VARINT, 0, 1, 3),
        Field(2, BYTES, 3, 5, 12),
        Field(3, FIXED32, 12, 13, 17),
        Field(4, FIXED64, 17, 18, 26),
        Field(100, BYTES, 26, 29, 29),
    ]
    assert list(iterate_fields(b"")) == []


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"\x08", "it ends in the middle of a field"),
        (b"\x08\x96", "it ends in the middle of a field"),
        (b"\x12\x07test", "it ends in the middle of a field"),
        (b"\x1d\x01\x02", "it ends in the middle of a field"),
        (b"\x08\x01\x0b", "no field starts at byte 2"),
        (b"\x00\x01", "no field starts at byte 0"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "a number has more than 10 bytes"),
        (b"\x08\x01" * 100_001, "it has more than 100000 fields"),
    ],
)
def test_bytes_that_are_not_a_message_are_refused(message: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        list(iterate_fields(message))


def test_the_largest_number_of_fields_is_allowed() -> None:
    assert len(list(iterate_fields(b"\x08\x01" * 100_000))) == 100_000


def test_opening_a_file(tmp_path: Path) -> None:
    path = tmp_path / "message"
    path.write_bytes(b"\x08\x01")
    with open_file_bytes(path) as data:
        assert list(iterate_fields(data)) == [Field(1, VARINT, 0, 1, 2)]
    assert read_file(path) == b"\x08\x01"
    path.write_bytes(b"")
    for wrong_path, reason in (
        (path, "is empty"),
        (tmp_path, "is a folder"),
        (tmp_path / "none", "cannot be read"),
    ):
        with pytest.raises(ArtifactError, match=reason), open_file_bytes(wrong_path):
            pass
        with pytest.raises(ArtifactError, match=reason):
            read_file(wrong_path)


def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    """A file that is mapped into memory would end this process with SIGBUS."""
    path = tmp_path / "message"
    path.write_bytes(b"\x12\x07testing" * 5000)

    def shorten_and_read() -> None:
        with open_file_bytes(path) as data:
            os.truncate(path, 0)
            data[9:18]

    with pytest.raises(ArtifactError, match=r"incomplete \(it became shorter while it was read\)"):
        shorten_and_read()


def test_the_fields_of_all_messages_of_a_file_are_limited() -> None:
    budget = FieldBudget(250_000)
    for _ in range(2):
        assert len(list(iterate_fields(b"\x08\x01" * 100_000, budget))) == 100_000
    with pytest.raises(ValueError, match="it has more than 250000 fields and numbers in all"):
        list(iterate_fields(b"\x08\x01" * 50_001, budget))
