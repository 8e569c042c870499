"""Protobuf's wire format, walked field by field with no schema and no protobuf package: ONNX and Core ML files are such messages."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tinyvit.errors import ArtifactError

Buffer: TypeAlias = "mmap.mmap | bytes"

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
_MAX_FIELDS = 100_000


class Field(NamedTuple):
    """A field of a message: its tag is at `start`, its value from `payload` to `end`."""

    number: int
    wire: int
    start: int
    payload: int
    end: int


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """The file's bytes; raises ArtifactError where there are none."""
    try:
        if path.is_dir():
            raise ArtifactError(f"{path} is a folder", "give the exported file itself")
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise ArtifactError(f"{path} is empty: 0 bytes", "export it again")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArtifactError(f"{path} cannot be read ({reason})", "check the path") from error
    with data:
        yield data


def varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    """(value, position after it); raises ValueError past `end` or after protobuf's ten bytes."""
    value = 0
    for i in range(10):
        if at + i >= end:
            raise ValueError("it ends in the middle of a field")
        value |= (data[at + i] & 0x7F) << (7 * i)
        if data[at + i] < 0x80:
            return value, at + i + 1
    raise ValueError("a number of more than ten bytes")


def fields(data: Buffer) -> Iterator[Field]:
    """The fields of one protobuf message, not descending into them; raises ValueError where the bytes are none."""
    at, end = 0, len(data)
    for _ in range(_MAX_FIELDS):
        if at == end:
            return
        tag, payload = varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        after = payload
        if wire == VARINT:
            after = varint(data, payload, end)[1]
        elif wire == BYTES:
            size, payload = varint(data, payload, end)
            after = payload + size
        elif wire in (FIXED64, FIXED32):
            after = payload + (8 if wire == FIXED64 else 4)
        else:
            raise ValueError(f"no field starts at byte {at}")
        if number == 0 or after > end:
            raise ValueError(
                "it ends in the middle of a field" if number else f"no field starts at byte {at}"
            )
        yield Field(number, wire, at, payload, after)
        at = after
    raise ValueError(f"more than {_MAX_FIELDS} fields")
