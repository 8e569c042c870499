"""Reads the names of methods, delegates and operators in a .pte file, without ExecuTorch.

A .pte file contains an ExecuTorch program: a flatbuffer with an extended header, followed by
segments of data. A delegate is a backend that runs a part of the network. Every offset is checked,
because files may be hostile.

Sources: ExecuTorch's schema/program.fbs for the tables, schema/extended_header.cpp for the header.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from flatbuffers import number_types
from flatbuffers.table import Table

from tinyvit.runtimes.formats.flatbuffer_tables import (
    read_root_table,
    read_scalar,
    read_string,
    read_tables,
)

_FILE_IDENTIFIER = b"ET12"
_HEADER_MAGIC = b"eh00"
_HEADER_FIELDS_OFFSET = 12
"""Position in the file of three fields of the header: the size of the header, the end of the
program and the start of the segments."""
_MIN_PROGRAM_END = 40
"""Smallest position at which the program may end: the header is a part of the program, and occupies
bytes 8 to 40 of the file."""
_SEGMENT_SIZE_OFFSET = 32
"""Position in the file of the header's last field, the size of the segments."""
_HEADER_BYTES_WITH_SEGMENT_SIZE = 32
"""Size in bytes of a header that has this last field. Older headers are shorter and do not have it;
their segments extend to the end of the file."""

# Numbers of the fields in their tables, in the order of program.fbs. A plan (ExecutionPlan) is one
# method of the program.
PROGRAM_PLANS = 1
PLAN_NAME, PLAN_CHAINS, PLAN_OPERATORS, PLAN_DELEGATES = 0, 5, 6, 7
CHAIN_INSTRUCTIONS = 2
INSTRUCTION_KIND = 0
DELEGATE_ID = 0
_OPERATOR_NAME, _OPERATOR_OVERLOAD = 0, 1

_JUMP_FALSE_CALL = 4
"""Value of the field `INSTRUCTION_KIND` for an instruction that jumps to another one."""

MAX_PLANS, MAX_CHAINS = 16, 4
"""Largest number of methods, and of lists of instructions in a method. tinyvit-export writes two
methods with one list each. Many entries of a vector may lead to one table, so these numbers limit
how often its contents are read."""


@dataclass(frozen=True)
class PteProgram:
    """Names of the methods in a .pte file and of the delegates and operators that it uses.

    Attributes:
        methods: Names of the methods, in the order of the file.
        delegates: Names of the delegates that the methods call, each once, sorted.
        operators: Operators that the methods run outside of delegates, such as
            "aten::index_select.out", each once, sorted.
        has_jumps: Whether an instruction can jump to another one. Such a program may never end.
        end: Position after the last byte of ExecuTorch's data. The archive with tinyvit-edge's
            manifest may follow.
    """

    methods: tuple[str, ...]
    delegates: tuple[str, ...]
    operators: tuple[str, ...]
    has_jumps: bool
    end: int


def is_pte(data: bytes) -> bool:
    """Return whether a file begins like a .pte file with an extended header.

    Args:
        data: The first bytes of a file, at least 12.

    Returns:
        Whether both identifiers are present; ExecuTorch has written them since version 0.1.
    """
    return data[4:8] == _FILE_IDENTIFIER and data[8:12] == _HEADER_MAGIC


def read_pte_program(data: bytes) -> PteProgram:
    """Read the tables of a .pte file.

    Args:
        data: All bytes of a file.

    Returns:
        The names in the tables, and where ExecuTorch's part of the file ends.

    Raises:
        ValueError: The bytes are not a .pte file, or the file is damaged.
    """
    if not is_pte(data):
        raise ValueError("it does not begin like a .pte file")
    try:
        header = read_header(data)
        root = read_root_table(data[: header.program_end])
        plans = read_few_tables(root, PROGRAM_PLANS, MAX_PLANS)
        has_jumps = any(map(_has_jumps, plans))
        delegates = {
            read_string(delegate, DELEGATE_ID)
            for plan in plans
            for delegate in read_tables(plan, PLAN_DELEGATES)
        }
        operators = {
            read_operator(operator)
            for plan in plans
            for operator in read_tables(plan, PLAN_OPERATORS)
        }
        methods = tuple(read_string(plan, PLAN_NAME) for plan in plans)
    except (struct.error, TypeError, UnicodeDecodeError, IndexError) as error:
        # flatbuffers raises TypeError for a negative offset.
        raise ValueError("one of its tables points outside of the file") from error
    return PteProgram(
        methods, tuple(sorted(delegates)), tuple(sorted(operators)), has_jumps, header.file_end
    )


class PteHeader(NamedTuple):
    """The positions of the parts of a file.

    Attributes:
        program_end: Where the program (the flatbuffer) ends.
        segments_start: Where the first segment begins; 0 if there are none.
        file_end: Where ExecuTorch's part of the file ends: with the last segment, or with the
            program if there are no segments.
    """

    program_end: int
    segments_start: int
    file_end: int


def find_parts(data: bytes) -> PteHeader:
    """Find the parts of a file, which has no extended header if it has no segments.

    Args:
        data: All bytes of a file.

    Returns:
        The positions that the header states; without a header, the program is the whole file.

    Raises:
        ValueError, struct.error: As in `read_header`.
    """
    return read_header(data) if is_pte(data) else PteHeader(len(data), 0, len(data))


def read_header(data: bytes) -> PteHeader:
    """Read the extended header of a file.

    Args:
        data: All bytes of a file.

    Returns:
        The positions that it states.

    Raises:
        ValueError: If the file is shorter than that, or if the parts overlap.
        struct.error: If the file is shorter than a header.
    """
    header_bytes, program_end, segments_start = struct.unpack_from(
        "<IQQ", data, _HEADER_FIELDS_OFFSET
    )
    file_end = program_end
    if segments_start:  # 0 means that there are no segments.
        file_end = len(data)
        if header_bytes >= _HEADER_BYTES_WITH_SEGMENT_SIZE:
            (segment_bytes,) = struct.unpack_from("<Q", data, _SEGMENT_SIZE_OFFSET)
            file_end = segments_start + segment_bytes
    if not _MIN_PROGRAM_END <= program_end <= file_end <= len(data):
        raise ValueError("it is shorter than its header states, or its parts overlap")
    return PteHeader(program_end, segments_start, file_end)


def read_few_tables(table: Table, field: int, limit: int) -> list[Table]:
    """Read a vector of tables that may have few entries.

    Args:
        table: The table with the vector.
        field: Number of the field, in the order of the schema.
        limit: Largest number of entries.

    Returns:
        The tables.

    Raises:
        ValueError: If there are more entries.
    """
    tables = list(read_tables(table, field))
    if len(tables) > limit:
        raise ValueError(f"one of its tables has {len(tables)} entries, more than {limit}")
    return tables


def _has_jumps(plan: Table) -> bool:
    """Return whether an instruction of a method can jump to another one."""
    return any(
        read_scalar(instruction, INSTRUCTION_KIND, number_types.Uint8Flags) == _JUMP_FALSE_CALL
        for chain in read_few_tables(plan, PLAN_CHAINS, MAX_CHAINS)
        for instruction in read_tables(chain, CHAIN_INSTRUCTIONS)
    )


def read_operator(operator: Table) -> str:
    """Join an operator's name and overload, such as "aten::index_select.out".

    Args:
        operator: A table of the type Operator.
    """
    parts = (read_string(operator, _OPERATOR_NAME), read_string(operator, _OPERATOR_OVERLOAD))
    return ".".join(filter(None, parts))
