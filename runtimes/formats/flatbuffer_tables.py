"""Reads single fields of flatbuffers, binary files of tables, without a generated reader.

Files may be hostile: the lengths of vectors and strings are limited, and every read beyond the end
of the file raises an error, which is one of `READER_ERRORS`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

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
