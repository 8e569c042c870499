"""What an ExecuTorch file (.pte) says of itself, read without ExecuTorch: whose delegates it calls, and which kernels besides.

In: the bytes of a file. Out: `Program`. A .pte is a flatbuffer (ExecuTorch's schema/program.fbs) with an extended header of its own
(runtime/core's extended_header.cpp), then segments; what stands behind the last of them is not the engine's. Every offset is checked.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_MAGIC, _HEADER = b"ET12", b"eh00"
_LONGEST = 10_000
"""Entries of a list, and bytes of a name, that are read at most."""

# Fields of the tables, in the order of program.fbs.
_PLANS = 1
_PLAN_NAME, _PLAN_OPERATORS, _PLAN_DELEGATES = 0, 6, 7
_NAME, _OVERLOAD = 0, 1


@dataclass(frozen=True)
class Program:
    """The methods of a file by name; the delegates that it calls and the operators that it runs itself, each once, sorted.

    end: where the engine's own bytes end.
    """

    methods: tuple[str, ...]
    delegates: tuple[str, ...]
    operators: tuple[str, ...]
    end: int


def is_pte(data: bytes) -> bool:
    """Whether they begin as a .pte does that has an extended header, as every one since ExecuTorch 0.1."""
    return data[4:8] == _MAGIC and data[8:12] == _HEADER


def read(data: bytes) -> Program:
    """Raises ValueError where the bytes are no .pte, or a damaged one."""
    if not is_pte(data):
        raise ValueError("it does not begin as a .pte does")
    try:
        length, program, segments = struct.unpack_from("<IQQ", data, 12)
        size = struct.unpack_from("<Q", data, 32)[0] if length >= 32 else len(data) - segments
        end = segments + size if segments else program
        if not 40 <= program <= end <= len(data):
            raise ValueError("it is shorter than it says, or its parts overlap")
        reader = _Reader(data[:program])
        plans = reader.tables(reader.offset(0), _PLANS)
        delegates = [
            reader.text(entry, _NAME)
            for plan in plans
            for entry in reader.tables(plan, _PLAN_DELEGATES)
        ]
        operators = [
            ".".join(filter(None, (reader.text(entry, _NAME), reader.text(entry, _OVERLOAD))))
            for plan in plans
            for entry in reader.tables(plan, _PLAN_OPERATORS)
        ]
        methods = [reader.text(plan, _PLAN_NAME) for plan in plans]
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError("one of its tables points outside of it") from error
    return Program(
        tuple(methods), tuple(sorted(set(delegates))), tuple(sorted(set(operators))), end
    )


class _Reader:
    """Flatbuffers: a table is a position; what a field holds by reference lies at the offset that it stores, relative to itself."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def offset(self, at: int) -> int:
        """Where the reference at `at` points."""
        return at + int(struct.unpack_from("<I", self._data, at)[0])

    def tables(self, table: int, field: int) -> list[int]:
        """The tables of a list."""
        at, count = self._list(table, field)
        return [self.offset(at + 4 * i) for i in range(count)]

    def text(self, table: int, field: int) -> str:
        """A string; "" where the field is absent."""
        at, count = self._list(table, field)
        if at + count > len(self._data):
            raise ValueError("one of its names points outside of it")
        return self._data[at : at + count].decode("utf-8")

    def _list(self, table: int, field: int) -> tuple[int, int]:
        """(first entry, how many); (0, 0) where the field is absent."""
        fields = table - struct.unpack_from("<i", self._data, table)[0]
        if fields < 0:
            raise ValueError("one of its tables points outside of it")
        size = struct.unpack_from("<H", self._data, fields)[0]
        place = (
            struct.unpack_from("<H", self._data, fields + 4 + 2 * field)[0]
            if 6 + 2 * field <= size
            else 0
        )
        if not place:
            return 0, 0
        at = self.offset(table + place)
        count = int(struct.unpack_from("<I", self._data, at)[0])
        if count > _LONGEST:
            raise ValueError(f"a list of {count} entries")
        return at + 4, count
