"""Reads the operators of a .pte file, without ExecuTorch.

A .pte file calls delegates, which are libraries that run a part of the network, and operators of
ExecuTorch itself, which run the rest. The parts for the delegate XNNPACK are read too; other
delegates do not publish the form of theirs, or have several.

The field numbers come from ExecuTorch's schema/program.fbs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import prod

from flatbuffers import number_types
from flatbuffers.table import Table

from tinyvit.runtimes.formats.flatbuffer_tables import (
    read_numbers,
    read_root_table,
    read_scalar,
    read_string,
    read_table,
    read_tables,
    read_view,
)
from tinyvit.runtimes.formats.network_graph import check_rank
from tinyvit.runtimes.formats.protobuf import FieldBudget
from tinyvit.runtimes.formats.pte_program import (
    CHAIN_INSTRUCTIONS,
    DELEGATE_ID,
    INSTRUCTION_KIND,
    MAX_CHAINS,
    MAX_PLANS,
    PLAN_CHAINS,
    PLAN_DELEGATES,
    PLAN_OPERATORS,
    PROGRAM_PLANS,
    find_parts,
    read_few_tables,
    read_operator,
)
from tinyvit.runtimes.formats.stated_operators import StatedNetwork, StatedOperator, find_depth
from tinyvit.runtimes.formats.xnnpack_network import read_xnnpack_part

# Numbers of the fields in the tables Program, DataSegment, BackendDelegateDataReference,
# ExecutionPlan, Instruction, KernelCall and DelegateCall, EValue, and Tensor.
_PROGRAM_INLINE_PARTS, _PROGRAM_SEGMENTS = 3, 4
_SEGMENT_OFFSET, _SEGMENT_SIZE = 0, 1
_DELEGATE_DATA, _DATA_LOCATION, _DATA_INDEX = 1, 0, 1
_PLAN_VALUES, _PLAN_INPUTS = 2, 3
_INSTRUCTION_TABLE = 1
_CALL_INDEX, _CALL_ARGUMENTS = 0, 1
_VALUE_KIND, _VALUE_TABLE = 0, 1
_TENSOR_SIZES, _TENSOR_DYNAMISM = 2, 8

_INLINE_DATA = 0
_KERNEL_CALL, _DELEGATE_CALL = 1, 2
"""Values of the field `INSTRUCTION_KIND`."""
_TENSOR = 5
"""Value of the field `_VALUE_KIND` for a tensor."""
_IN_SEGMENT = 1
"""Value of the field `_DATA_LOCATION` for a part that is in a segment after the program."""
_XNNPACK = "XnnpackBackend"

_MAX_ENTRIES = 100_000
"""Largest number of instructions, and of nodes and values for XNNPACK, together. A TinyViT has
fewer than 3,000. Many entries of a vector may lead to one table."""
_MAX_ARGUMENTS = 100
"""Largest number of arguments of an operator that computes a product."""
_MAX_NAME_LENGTH = 80
"""Number of characters of a name that are shown."""

_PRODUCTS = {
    "aten::convolution": (0, 1),
    "aten::linear": (0, 1),
    "aten::addmm": (1, 2),
    "aten::mm": (0, 1),
    "aten::bmm": (0, 1),
}
"""Name of an operator -> positions of the two arguments that are multiplied."""


def read_network(data: bytes) -> StatedNetwork:
    """Read the operators of a file.

    Args:
        data: All bytes of a file.

    Returns:
        The operators outside of the delegates, and those in parts for XNNPACK.

    Raises:
        ValueError, struct.error, TypeError: If the file is damaged, or larger than a limit.
    """
    reader = _PteReader(data)
    plans = read_few_tables(reader.program, PROGRAM_PLANS, MAX_PLANS)
    for plan in plans:
        reader.read_plan(plan)
    return StatedNetwork(
        "xnnpack",
        tuple(reader.operators),
        is_quantized=reader.is_quantized,
        has_open_sizes=any(map(_has_open_sizes, plans)),
        delegate_calls=dict(reader.delegate_calls),
        has_unread_parts=reader.has_unread_parts,
    )


class _PteReader:
    """Reads the operators of a file, method by method.

    Attributes:
        program: The table of the whole program.
        operators: The operators that were read.
        delegate_calls: Name of a delegate -> how often it is called.
        is_quantized: Whether a part for XNNPACK contains quantized integers.
        has_unread_parts: Whether a part could not be read.
    """

    def __init__(self, data: bytes) -> None:
        """Read the header of a file.

        Args:
            data: All bytes of the file.
        """
        self._data, self._header = memoryview(data), find_parts(data)
        self.program = read_root_table(self._data[: self._header.program_end])
        self._segments = list(read_tables(self.program, _PROGRAM_SEGMENTS))
        self._inline_parts = list(read_tables(self.program, _PROGRAM_INLINE_PARTS))
        self._budget = FieldBudget(_MAX_ENTRIES)
        self.operators: list[StatedOperator] = []
        self.delegate_calls: Counter[str] = Counter()
        self.is_quantized = self.has_unread_parts = False

    def read_plan(self, plan: Table) -> None:
        """Read the operators of a method, in the order in which it runs them."""
        names = [
            read_operator(table)[:_MAX_NAME_LENGTH] for table in read_tables(plan, PLAN_OPERATORS)
        ]
        delegates = list(read_tables(plan, PLAN_DELEGATES))
        refusal = _explain_refusal(delegates)
        values = list(read_tables(plan, _PLAN_VALUES))
        for kind, call in self._list_calls(plan):
            index = read_scalar(call, _CALL_INDEX, number_types.Int32Flags)
            if not 0 <= index < len(names if kind == _KERNEL_CALL else delegates):
                raise ValueError("an instruction names an operator that does not exist")
            if kind == _DELEGATE_CALL:
                self._read_delegate_call(delegates[index])
                continue
            product = _count_multiplications(names[index], call, values)
            self.operators.append(StatedOperator(names[index], "", 0, True, product, refusal))

    def _list_calls(self, plan: Table) -> Iterator[tuple[int, Table]]:
        """Yield the instructions that run an operator or a delegate: kind and table."""
        for chain in read_few_tables(plan, PLAN_CHAINS, MAX_CHAINS):
            for instruction in read_tables(chain, CHAIN_INSTRUCTIONS):
                self._budget.spend(1)
                kind = read_scalar(instruction, INSTRUCTION_KIND, number_types.Uint8Flags)
                call = read_table(instruction, _INSTRUCTION_TABLE)
                if call is not None and kind in (_KERNEL_CALL, _DELEGATE_CALL):
                    yield kind, call

    def _read_delegate_call(self, delegate: Table) -> None:
        """Count a call of a delegate, and read its operators if it is XNNPACK."""
        name = read_string(delegate, DELEGATE_ID)[:_MAX_NAME_LENGTH]
        self.delegate_calls[name] += 1
        part = None
        if name == _XNNPACK:
            part = read_xnnpack_part(self._find_part(delegate), self._budget)
        if part is None:
            self.has_unread_parts = True
            return
        self.operators.extend(part.operators)
        self.is_quantized |= part.is_quantized

    def _find_part(self, delegate: Table) -> memoryview:
        """Return the bytes of the part that a delegate runs."""
        reference = read_table(delegate, _DELEGATE_DATA)
        if reference is None:
            raise ValueError("a delegate has no part of the network")
        index = read_scalar(reference, _DATA_INDEX, number_types.Uint32Flags)
        is_in_segment = (
            read_scalar(reference, _DATA_LOCATION, number_types.Int8Flags) == _IN_SEGMENT
        )
        tables = self._segments if is_in_segment else self._inline_parts
        if index >= len(tables):
            raise ValueError("a delegate names a part that does not exist")
        if not is_in_segment:
            return read_view(tables[index], _INLINE_DATA)
        offset, size = (
            read_scalar(tables[index], field, number_types.Uint64Flags)
            for field in (_SEGMENT_OFFSET, _SEGMENT_SIZE)
        )
        start = self._header.segments_start + offset
        if start + size > self._header.file_end:
            raise ValueError("a segment reaches beyond the file")
        return self._data[start : start + size]


def _explain_refusal(delegates: list[Table]) -> str:
    """Return why an operator outside of the delegates is refused, as a clause."""
    names = {read_string(delegate, DELEGATE_ID)[:_MAX_NAME_LENGTH] for delegate in delegates}
    if not names:
        return "the file has no part for a delegate"
    if len(names) == 1:
        return f"it is outside of the part for the delegate {names.pop()}"
    return "it is outside of the parts for the delegates"


def _count_multiplications(name: str, call: Table, values: list[Table]) -> int:
    """Count the multiplications of an operator that ExecuTorch itself runs."""
    positions = _PRODUCTS.get(name.removesuffix(".out"))
    if positions is None:
        return 0
    arguments = read_numbers(call, _CALL_ARGUMENTS, "<i4")
    if not max(positions) < len(arguments) <= _MAX_ARGUMENTS:
        raise ValueError(f"an operator {name} has {len(arguments)} arguments")
    first, second = (_read_sizes(values, arguments[position]) for position in positions)
    result = _read_sizes(values, arguments[-1])
    if name.startswith(("aten::convolution", "aten::linear")):
        return prod(result) * prod(second[1:])
    return prod(result) * find_depth(first, result)


def _read_sizes(values: list[Table], index: int) -> list[int]:
    """Read the sizes of a tensor of a method."""
    if not 0 <= index < len(values):
        raise ValueError("an operator uses a value that does not exist")
    tensor = _find_tensor(values[index])
    if tensor is None:
        raise ValueError("an operator that multiplies tensors uses another value")
    sizes = read_numbers(tensor, _TENSOR_SIZES, "<i4")
    check_rank(sizes)
    if min(sizes, default=0) < 0:
        raise ValueError("a tensor has a negative size")
    return sizes


def _has_open_sizes(plan: Table) -> bool:
    """Return whether a size of an input of a method may vary.

    The file does not state which size varies, so a number of images that varies counts too.
    """
    values = list(read_tables(plan, _PLAN_VALUES))
    indices = read_numbers(plan, _PLAN_INPUTS, "<i4")
    if any(not 0 <= index < len(values) for index in indices):
        raise ValueError("an input is a value that does not exist")
    tensors = filter(None, (_find_tensor(values[index]) for index in indices))
    return any(
        read_scalar(tensor, _TENSOR_DYNAMISM, number_types.Int8Flags) != 0 for tensor in tensors
    )


def _find_tensor(value: Table) -> Table | None:
    """Return the table of a value (EValue) that is a tensor; None for other values."""
    kind = read_scalar(value, _VALUE_KIND, number_types.Uint8Flags)
    return read_table(value, _VALUE_TABLE) if kind == _TENSOR else None
