"""Finds the fields of a protobuf message in its wire format; ONNX and Core ML models are messages.

The `protobuf` package is not used, although every onnxruntime since 1.17 requires it. It parses the
whole message and copies the weights, and it does not report at which byte a field begins. These
positions are needed to hash everything except the manifest. This module reads only the headers of
the fields, and those values that a caller asks for. The table shows the time and the additional
peak memory for reading the manifest of an .onnx file for the first time (protobuf 7.36, two cores
of an Intel Xeon):

    file size    protobuf              this module
    20 MiB        25 ms, +40 MiB       0.27 ms, +0 MiB
    90 MiB       118 ms, +180 MiB      0.25 ms, +2 MiB
    import        24 ms                3 ms

The file is not mapped into memory: if another process shortens a mapped file, or if its disk or
network fails, reading it ends this process with a signal (SIGBUS).

Specification of the wire format: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias, overload

from tinyvit.errors import ArtifactError
from tinyvit.files.regular_files import open_regular_file, read_bounded
from tinyvit.runtimes.formats import MAX_FILE_BYTES
from tinyvit.runtimes.formats.file_errors import damaged_error, unreadable_error

Buffer: TypeAlias = "FileBytes | memoryview | bytes"

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types, which state how a value is encoded. Strings and nested messages are BYTES."""

_MAX_FIELDS = 100_000
_MAX_VARINT_BYTES = 10

MAX_FILE_FIELDS = 2_000_000
"""Largest number of fields in all messages of a file that are read, together with the numbers in
lists. A TinyViT has fewer than 100,000. Each takes about a microsecond."""

_BLOCK_BYTES = 4096
_TRUNCATED = "it ends in the middle of a field"


class Field(NamedTuple):
    """The position of one field in a message.

    Attributes:
        number: Field number in the schema (.proto file).
        wire_type: VARINT, FIXED64, BYTES or FIXED32.
        start: Position of the field's first byte, where its tag (number and wire type) begins.
        value_start: Position of the first byte of its value.
        end: Position after its last byte.
    """

    number: int
    wire_type: int
    start: int
    value_start: int
    end: int


_make_field = Field._make


class FieldBudget:
    """Limits the number of fields in all messages of a file together.

    Messages contain other messages, so a file of a few megabytes could contain millions of fields
    without any message that has more than 100,000.
    """

    def __init__(self, max_fields: int = MAX_FILE_FIELDS) -> None:
        """Allow a number of fields.

        Args:
            max_fields: The number.
        """
        self._max_fields = self._left = max_fields

    def spend(self, count: int) -> None:
        """Subtract a number of fields, or of numbers in a list.

        Args:
            count: The number.

        Raises:
            ValueError: If it is larger than what is left. The message is a clause, in which "it" is
                the file.
        """
        self._left -= count
        if self._left < 0:
            raise ValueError(f"it has more than {self._max_fields} fields and numbers in all")


class FileBytes:
    """The bytes of an open file, which are read when a caller asks for some of them.

    Reading raises ValueError if the file has become shorter. The message is a clause, in which "it"
    is the file.
    """

    def __init__(self, file: io.BufferedReader | io.FileIO) -> None:
        """Use an open file, which must stay open.

        Args:
            file: The file.
        """
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._block, self._block_start = b"", 0

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, key: int) -> int: ...

    @overload
    def __getitem__(self, key: slice) -> bytes: ...

    def __getitem__(self, key: int | slice) -> int | bytes:
        if isinstance(key, slice):
            start, stop, _step = key.indices(self._size)
            return self._read(start, max(stop - start, 0))
        if not 0 <= key - self._block_start < len(self._block):
            self._block = self._read(key, min(_BLOCK_BYTES, self._size - key))
            self._block_start = key
        return self._block[key - self._block_start]

    def _read(self, start: int, count: int) -> bytes:
        self._file.seek(start)
        content = self._file.read(count)
        if len(content) != count:
            raise ValueError("it became shorter while it was read")
        return content


@contextmanager
def open_file_bytes(path: Path) -> Iterator[FileBytes]:
    """Open a file whose bytes are read when they are needed.

    Args:
        path: Path of the file.

    Yields:
        The file's bytes.

    Raises:
        ArtifactError: If the file cannot be read, is empty, or is a folder, or if the block raises
            ValueError, which means that the file is damaged.
    """
    try:
        with open_regular_file(path) as file:
            data = FileBytes(file)
            _require_content(len(data), path)
            yield data
    except IsADirectoryError as error:
        raise ArtifactError(f"{path} is a folder", "give the exported file itself") from error
    except OSError as error:
        raise unreadable_error(path, error) from error
    except ValueError as error:
        raise damaged_error(path, error) from error


def read_file(path: Path) -> bytes:
    """Read all bytes of a file.

    Args:
        path: Path of the file.

    Returns:
        The file's bytes.

    Raises:
        ArtifactError: If the file cannot be read, is empty, is larger than 2 GiB, or is a folder.
    """
    try:
        data = read_bounded(path, MAX_FILE_BYTES)
    except IsADirectoryError as error:
        raise ArtifactError(f"{path} is a folder", "give the exported file itself") from error
    except (OSError, ValueError) as error:
        raise unreadable_error(path, error) from error
    _require_content(len(data), path)
    return data


def _require_content(size_bytes: int, path: Path) -> None:
    """Raise ArtifactError if a file is empty."""
    if not size_bytes:
        raise ArtifactError(f"{path} is empty: 0 bytes", "export it again")


def iterate_fields(data: Buffer, budget: FieldBudget | None = None) -> Iterator[Field]:
    """Find the top-level fields of a message. Nested messages are not entered.

    Args:
        data: The whole message.
        budget: What is left for all messages of the file. At the end of the message, the number of
            its fields is subtracted. None for no limit except that of one message.

    Yields:
        The fields in the order of the message.

    Raises:
        ValueError: If the bytes are not a message, or if the message has more than 100,000 fields,
            or if the budget is used up.
    """
    position, end = 0, len(data)
    for count in range(_MAX_FIELDS):
        if position == end:
            if budget:
                budget.spend(count)
            return
        # Most fields are short texts or messages, with one byte for the tag and one for the length.
        # Reading a graph takes half the time with this shortcut.
        if (
            position + 1 < end
            and 7 < (tag := data[position]) < 0x80
            and (size := data[position + 1]) < 0x80
            and tag & 7 == BYTES
            and (field_end := position + 2 + size) <= end
        ):
            yield _make_field((tag >> 3, BYTES, position, position + 2, field_end))
            position = field_end
            continue
        field = _read_field(data, position, end)
        yield field
        position = field.end
    if budget:
        budget.spend(_MAX_FIELDS)
    if position < end:
        raise ValueError(f"it has more than {_MAX_FIELDS} fields")


def encode_bytes_field(number: int, value: bytes) -> bytes:
    """Encode a field whose value is a string or a message, in the only form that libraries write.

    Args:
        number: Field number in the schema (.proto file).
        value: The string or the message.

    Returns:
        Tag, length and value.
    """
    return _encode_varint(number << 3 | BYTES) + _encode_varint(len(value)) + value


def _encode_varint(value: int) -> bytes:
    """Encode a number with as few bytes as possible; the inverse of `read_varint`."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_field(data: Buffer, start: int, end: int) -> Field:
    """Read the header of the field at `start`, in a message that ends at `end`."""
    tag, value_start = read_varint(data, start, end)
    number, wire_type = tag >> 3, tag & 7
    if wire_type == VARINT:
        _value, field_end = read_varint(data, value_start, end)
    elif wire_type == BYTES:
        size, value_start = read_varint(data, value_start, end)
        field_end = value_start + size
    elif wire_type in (FIXED64, FIXED32):
        field_end = value_start + (8 if wire_type == FIXED64 else 4)
    else:
        raise ValueError(f"no field starts at byte {start}")
    if number == 0:
        raise ValueError(f"no field starts at byte {start}")
    if field_end > end:
        raise ValueError(_TRUNCATED)
    return Field(number, wire_type, start, value_start, field_end)


def read_varint(data: Buffer, position: int, end: int) -> tuple[int, int]:
    """Read a number of variable length.

    Each byte holds 7 bits, the lowest first; its highest bit is set if another byte follows.

    Args:
        data: The message.
        position: Position of the number's first byte.
        end: Position after the last byte of the message.

    Returns:
        The number, which is not negative, and the position after it.

    Raises:
        ValueError: If the number does not end before `end`, or has more than 10 bytes.
    """
    # Most numbers have one byte. Without the loop, reading a graph takes a quarter less time.
    if position < end and (byte := data[position]) < 0x80:
        return byte, position + 1
    value = 0
    for i in range(_MAX_VARINT_BYTES):
        if position + i >= end:
            raise ValueError(_TRUNCATED)
        byte = data[position + i]
        value |= (byte & 0x7F) << (7 * i)
        is_last_byte = byte < 0x80
        if is_last_byte:
            return value, position + i + 1
    raise ValueError(f"a number has more than {_MAX_VARINT_BYTES} bytes")
