"""Reads single fields of flatbuffers, binary files of tables, without a generated reader.

Files may be hostile: the lengths of vectors and strings are limited, and every read beyond the end
of the file raises an error, which is one of `READER_ERRORS`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from flatbuffers import number_types
from flatbuffers.table import Table

READER_ERRORS = (ValueError, struct.error, TypeError)
"""Errors that the functions of this module raise for a damaged file. flatbuffers raises TypeError
for a negative offset."""

MAX_LENGTH = 10_000
"""Largest allowed number of entries in a vector, and of bytes in a string."""


def read_root_table(data: Any) -> Table:
    """Read the root table of a flatbuffer.

    Args:
        data: The flatbuffer, as bytes or as a file that is mapped into memory.

    Returns:
        The table.
    """
    # A flatbuffer begins with the offset of its root table.
    return Table(data, Table(data, 0).Indirect(0))


def read_table(table: Table, field: int) -> Table | None:
    """Read a field that is a table; None if the field is absent.

    Args:
        table: The table with the field.
        field: Number of the field, in the order of the schema.
    """
    offset = _find_field(table, field)
    return Table(table.Bytes, table.Indirect(table.Pos + offset)) if offset else None


def read_tables(table: Table, field: int) -> Iterator[Table]:
    """Yield the tables in a field that is a vector of tables.

    Args:
        table: The table with the field.
        field: Number of the field, in the order of the schema.
    """
    start, count = _find_vector(table, field)
    for index in range(count):
        yield Table(table.Bytes, table.Indirect(start + 4 * index))


def read_string(table: Table, field: int) -> str:
    """Read a field that is a string; "" if the field is absent.

    Args:
        table: The table with the field.
        field: Number of the field, in the order of the schema.
    """
    start, count = _find_vector(table, field)
    if start + count > len(table.Bytes):
        raise ValueError("one of its names reaches beyond the file")
    return bytes(table.Bytes[start : start + count]).decode("utf-8")


def read_strings(table: Table, field: int) -> list[str]:
    """Read a field that is a vector of strings.

    Args:
        table: The table with the field.
        field: Number of the field, in the order of the schema.
    """
    start, count = _find_vector(table, field)
    strings = []
    for index in range(count):
        position = start + 4 * index
        string = position + table.Get(number_types.UOffsetTFlags, position)
        length = table.Get(number_types.UOffsetTFlags, string)
        strings.append(_slice(table, string + 4, length).decode("utf-8"))
    return strings


def read_scalar(table: Table, field: int, flags: Any) -> Any:
    """Read a field that is a number; 0 if the field is absent.

    Args:
        table: The table with the field.
        field: Number of the field, in the order of the schema.
        flags: Type of the number, a class of `flatbuffers.number_types`.
    """
    offset = _find_field(table, field)
    return table.Get(flags, table.Pos + offset) if offset else flags.py_type(0)


def read_numbers(table: Table, field: int, dtype: str) -> list[Any]:
    """Read a field that is a vector of numbers.

    Args:
        table: The table with the field.
        field: Number of the field, in the order of the schema.
        dtype: Type of the numbers, for numpy.
    """
    start, count = _find_vector(table, field)
    data = _slice(table, start, count * np.dtype(dtype).itemsize)
    return list(np.frombuffer(data, dtype).tolist())


def read_bytes(table: Table, field: int) -> bytes:
    """Read a field that is a vector of bytes.

    Args:
        table: The table with the field.
        field: Number of the field, in the order of the schema.
    """
    return _slice(table, *_find_vector(table, field))


def read_view(table: Table, field: int) -> memoryview:
    """Return a field that is a vector of bytes, of any length, without copying it.

    Args:
        table: The table with the field.
        field: Number of the field, in the order of the schema.
    """
    offset = _find_field(table, field)
    if not offset:
        return memoryview(b"")
    start, length = table.Vector(offset), table.VectorLen(offset)
    if start + length > len(table.Bytes):
        raise ValueError("one of its values reaches beyond the file")
    return memoryview(table.Bytes)[start : start + length]


def _slice(table: Table, start: int, length: int) -> bytes:
    """Return bytes of the file; raise ValueError if they reach beyond it, or are too many."""
    if start + length > len(table.Bytes) or length > 8 * MAX_LENGTH:
        raise ValueError("one of its values reaches beyond the file, or is too long")
    return bytes(table.Bytes[start : start + length])


def _find_field(table: Table, field: int) -> int:
    """Return the offset of a field in its table; 0 if it is absent."""
    return int(table.Offset(4 + 2 * field))  # Byte 4 + 2 n of the vtable has the offset of field n.


def _find_vector(table: Table, field: int) -> tuple[int, int]:
    """Return the position of a vector's first entry, and its number of entries; (0, 0) if absent.

    A string is a vector of bytes.
    """
    offset = _find_field(table, field)
    if not offset:
        return 0, 0
    count = table.VectorLen(offset)
    if count > MAX_LENGTH:
        raise ValueError(f"one of its vectors has {count} entries, more than {MAX_LENGTH}")
    return table.Vector(offset), count
