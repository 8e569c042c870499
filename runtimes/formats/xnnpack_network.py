"""Reads the operators in a part of a .pte file that is compiled for the XNNPACK delegate.

Such a part is a flatbuffer, after a small header, that states all operators with the types and the
sizes of their tensors.

Source: ExecuTorch's backends/xnnpack/serialization, schema.fbs for the tables and
xnnpack_graph_serialize.py for the header.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod

from flatbuffers import number_types
from flatbuffers.table import Table

from tinyvit.runtimes.formats.flatbuffer_tables import (
    read_numbers,
    read_root_table,
    read_scalar,
    read_table,
    read_tables,
)
from tinyvit.runtimes.formats.network_graph import check_rank
from tinyvit.runtimes.formats.protobuf import FieldBudget
from tinyvit.runtimes.formats.stated_operators import StatedOperator, find_depth

_HEADER_MAGIC, _FLATBUFFER_MAGIC = b"XH00", b"XN"
"""How bytes 4 to 8 begin with a header, and without one."""
_HEADER_FIELDS = struct.Struct("<II")
_HEADER_FIELDS_OFFSET = 10
"""Position of two fields of the header: start and size of the flatbuffer."""
_HEADER_BYTES = 30

# Numbers of the fields in the tables XNNGraph, XNode, XValue, XNNQuantizedTensorValue and
# XNNTensorValue. A union occupies two fields: the kind of the table, and the table.
_GRAPH_NODES, _GRAPH_VALUES = 1, 2
_UNION_KIND, _UNION_TABLE = 0, 1
_QUANTIZED_TENSOR = 0
_TENSOR_TYPE, _TENSOR_SIZES, _TENSOR_CONSTANT, _TENSOR_ID = 0, 2, 3, 6
_QUANTIZED_VALUE = 2
"""Value of the field `_UNION_KIND` for an XNNQuantizedTensorValue."""

_FLOAT_TYPES = frozenset((1, 2, 13, 14))
"""Values of XNNDatatype for float32, float16, packed float32 and bfloat16."""
_QUANTIZED_TYPES = frozenset((3, 4, 9, 11))
"""Values of XNNDatatype for quantized 8-bit integers that are no weights."""

_UNARY, _BINARY = ((0,), 1), ((0, 1), 2)
_CONVOLUTION, _POOLING = ((15, 16), 18), ((10,), 11)
_OPERATORS: tuple[tuple[str, tuple[tuple[int, ...], int]], ...] = (
    ("Add", _BINARY),
    ("FullyConnected", ((0, 1), 3)),
    ("Softmax", _UNARY),
    ("Sigmoid", _UNARY),
    ("StaticTranspose", ((2,), 3)),
    ("Clamp", _UNARY),
    ("Conv2d", _CONVOLUTION),
    ("Div", _BINARY),
    ("StaticResizeBilinear2D", ((2,), 3)),
    ("StaticConstantPad", ((3,), 4)),
    ("AvgPooling2d", _POOLING),
    ("Minimum", _BINARY),
    ("DepthwiseConv2d", _CONVOLUTION),
    ("MaxPooling2d", _POOLING),
    ("Multiply", _BINARY),
    ("Subtract", _BINARY),
    ("Floor", _UNARY),
    ("Convert", _UNARY),
    ("GlobalAvgPooling2d", _UNARY),
    ("StaticReshape", ((2,), 3)),
    ("ArgMaxPooling2d", ((6,), 7)),
    ("SquareRoot", _UNARY),
    ("Ceiling", _UNARY),
    ("Hardswish", _UNARY),
    ("LeakyReLU", ((1,), 2)),
    ("Maximum", _BINARY),
    ("Negate", _UNARY),
    ("Square", _UNARY),
    ("ELU", ((1,), 2)),
    ("Abs", _UNARY),
    ("PReLU", _BINARY),
    ("Concatenate2", ((1, 2), 5)),
    ("Concatenate3", ((1, 2, 3), 5)),
    ("Concatenate4", ((1, 2, 3, 4), 5)),
    ("StaticSlice", ((3,), 4)),
    ("ScaledDotProductAttention", ((0, 1, 2), 5)),
    ("BatchMatrixMultiply", _BINARY),
    ("Concatenate5", ((1, 2, 3, 4, 7), 5)),
    ("ConvTranspose2d", _CONVOLUTION),
    ("ReciprocalSquareRoot", _UNARY),
    ("Log", _UNARY),
    ("Gelu", _UNARY),
    ("Tanh", _UNARY),
    ("Exp", _UNARY),
    ("Sin", _UNARY),
    ("Copy", _UNARY),
    ("Cos", _UNARY),
)
"""The kinds of nodes, in the order of XNodeUnion, from 1: name, numbers of the fields with the ids
of the inputs, and number of the field with the id of the output. Newer kinds are shown as numbers.
"""


@dataclass(frozen=True)
class _Value:
    sizes: tuple[int, ...]
    data_type: int
    is_constant: bool


@dataclass(frozen=True)
class XnnpackPart:
    """The operators in a part for XNNPACK.

    Attributes:
        operators: The operators, in the order of the file.
        is_quantized: Whether a tensor that is no constant contains quantized integers.
    """

    operators: tuple[StatedOperator, ...]
    is_quantized: bool


def read_xnnpack_part(data: memoryview, budget: FieldBudget) -> XnnpackPart | None:
    """Read the operators of a part.

    Args:
        data: The part, without anything else.
        budget: Limit on the number of nodes and values in all parts of the file.

    Returns:
        The operators; None if the part has a form that is not known.

    Raises:
        ValueError, struct.error, TypeError: If the part is damaged.
    """
    magic = bytes(data[4:8])
    if magic == _HEADER_MAGIC and len(data) >= _HEADER_BYTES:
        start, size = _HEADER_FIELDS.unpack_from(data, _HEADER_FIELDS_OFFSET)
        if start + size > len(data):
            raise ValueError("a part for XNNPACK is shorter than its header states")
        data = data[start : start + size]
    elif not magic.startswith(_FLATBUFFER_MAGIC):
        return None
    graph = read_root_table(data)
    values: dict[int, _Value] = {}
    for table in read_tables(graph, _GRAPH_VALUES):
        budget.spend(1)
        number, value = _read_value(table)
        values[number] = value
    operators = []
    for node in read_tables(graph, _GRAPH_NODES):
        budget.spend(1)
        operators.append(_read_node(node, values))
    is_quantized = any(
        value.data_type in _QUANTIZED_TYPES and not value.is_constant for value in values.values()
    )
    return XnnpackPart(tuple(operators), is_quantized)


def _read_value(table: Table) -> tuple[int, _Value]:
    """Read the id and the facts of a value (XValue)."""
    kind = read_scalar(table, _UNION_KIND, number_types.Uint8Flags)
    tensor = read_table(table, _UNION_TABLE)
    if tensor is not None and kind == _QUANTIZED_VALUE:
        tensor = read_table(tensor, _QUANTIZED_TENSOR)
    if tensor is None:
        raise ValueError("a value of a part for XNNPACK has no tensor")
    sizes = tuple(read_numbers(tensor, _TENSOR_SIZES, "<u4"))
    check_rank(sizes)
    value = _Value(
        sizes=sizes,
        data_type=read_scalar(tensor, _TENSOR_TYPE, number_types.Int16Flags),
        is_constant=bool(read_scalar(tensor, _TENSOR_CONSTANT, number_types.Uint32Flags)),
    )
    return read_scalar(tensor, _TENSOR_ID, number_types.Uint32Flags), value


def _read_node(node: Table, values: dict[int, _Value]) -> StatedOperator:
    """Describe an operator (XNode)."""
    kind = read_scalar(node, _UNION_KIND, number_types.Uint8Flags)
    table = read_table(node, _UNION_TABLE)
    if table is None or not 1 <= kind <= len(_OPERATORS):
        return StatedOperator(f"XNNPACK node {kind}", "", 0, True, 0)
    name, (input_fields, output_field) = _OPERATORS[kind - 1]
    inputs = [_find_value(table, number, values) for number in input_fields]
    output = _find_value(table, output_field, values)
    tensors = [value for value in (inputs[0], output) if not value.is_constant]
    return StatedOperator(
        name=name,
        output=f"value {read_scalar(table, output_field, number_types.Uint32Flags)}",
        max_rank=max(len(value.sizes) for value in (*inputs, output)),
        has_floats=any(value.data_type in _FLOAT_TYPES for value in tensors),
        multiplications=_count_multiplications(name, inputs, output.sizes),
    )


def _find_value(table: Table, field: int, values: dict[int, _Value]) -> _Value:
    """Return the value whose id is in a field of a node."""
    value = values.get(read_scalar(table, field, number_types.Uint32Flags))
    if value is None:
        raise ValueError("a part for XNNPACK uses a value that does not exist")
    return value


def _count_multiplications(name: str, inputs: list[_Value], result: tuple[int, ...]) -> int | None:
    """Count the multiplications of a product; 0 for other operators, None if it is not known."""
    first = inputs[0].sizes
    if name in ("FullyConnected", "BatchMatrixMultiply"):
        return prod(result) * find_depth(first, result)
    if name == "Conv2d":  # weights: (outputs, height, width, inputs)
        return prod(result) * prod(inputs[1].sizes[1:])
    if name == "DepthwiseConv2d":  # weights: (1, height, width, outputs)
        return prod(result) * prod(inputs[1].sizes[1:-1])
    if name == "ConvTranspose2d":  # weights: (outputs, height, width, inputs)
        return prod(first[:-1]) * prod(inputs[1].sizes)
    return None if name == "ScaledDotProductAttention" else 0
