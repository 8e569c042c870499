"""Reads the operators of an .ort file as a `NetworkGraph`.

The field numbers come from onnxruntime/core/flatbuffers/schema/ort.fbs in
https://github.com/microsoft/onnxruntime.
"""

from __future__ import annotations

from math import prod
from typing import Any

from flatbuffers import number_types
from flatbuffers.table import Table

from tinyvit.runtimes.formats.flatbuffer_tables import (
    read_bytes,
    read_numbers,
    read_scalar,
    read_string,
    read_strings,
    read_table,
    read_tables,
)
from tinyvit.runtimes.formats.network_graph import (
    MAX_KNOWN_VALUES,
    Constant,
    NetworkGraph,
    Node,
    check_rank,
    make_constant,
)
from tinyvit.runtimes.formats.onnx_operators import name_if_foreign

_FUSED_NAMES = """
Attention BiasGelu BiasSoftmax BiasSplitGelu DynamicQuantizeMatMul FastGelu FusedConv FusedGemm
FusedMatMul Gelu GroupNorm MatMulIntegerToFloat MatMulNBits MultiHeadAttention NhwcConv
NhwcMaxPool QAttention QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearConv
QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid
QLinearSoftmax QLinearWhere QuickGelu SkipLayerNormalization DequantizeLinear QuantizeLinear
"""

_FUSED_OPERATORS = frozenset(_FUSED_NAMES.split())
"""Operators of ONNX Runtime's own domain into which it fuses those of an image classifier."""

_FUSED_DOMAIN = "com.microsoft"

# Numbers of the fields in the tables InferenceSession, Model, Graph, Node, Attribute and Tensor.
_SESSION_MODEL, _MODEL_GRAPH = 1, 7
_GRAPH_INITIALIZERS, _GRAPH_VALUES, _GRAPH_NODES, _GRAPH_INPUTS, _GRAPH_SPARSE = 0, 1, 2, 5, 7
_NODE_DOMAIN, _NODE_OPERATOR, _NODE_INPUTS, _NODE_OUTPUTS, _NODE_ATTRIBUTES = 2, 5, 8, 9, 10
_ATTRIBUTE_NAME, _ATTRIBUTE_TYPE, _ATTRIBUTE_FLOAT, _ATTRIBUTE_INT = 0, 2, 3, 4
_ATTRIBUTE_STRING, _ATTRIBUTE_TENSOR, _ATTRIBUTE_FLOATS, _ATTRIBUTE_INTS = 5, 6, 8, 9
_TENSOR_NAME, _TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_RAW_DATA = 0, 2, 3, 4
# Numbers of the fields in the tables ValueInfo, TypeInfo, TensorTypeAndShape, Shape and Dimension.
_VALUE_NAME, _VALUE_TYPE, _TYPE_VALUE, _TYPE_SHAPE, _SHAPE_DIMS = 0, 2, 2, 1, 0
_DIMENSION_VALUE, _DIMENSION_NUMBER = 0, 1

# Values of the field `_ATTRIBUTE_TYPE`, as in ONNX.
_FLOAT, _INT, _STRING, _TENSOR, _FLOATS, _INTS = 1, 2, 3, 4, 6, 7


def read_graph(session: Table) -> NetworkGraph:
    """Read the graph of a file.

    Args:
        session: The root table of the file.

    Returns:
        The graph.

    Raises:
        ValueError, struct.error, TypeError: If the file is damaged, or contains a sparse tensor.
    """
    graph = NetworkGraph()
    model = read_table(session, _SESSION_MODEL)
    table = read_table(model, _MODEL_GRAPH) if model else None
    if table is None:
        return graph
    if any(True for _tensor in read_tables(table, _GRAPH_SPARSE)):
        raise ValueError("it contains a sparse tensor, whose size in memory has no limit")
    for tensor in read_tables(table, _GRAPH_INITIALIZERS):
        graph.constants[read_string(tensor, _TENSOR_NAME)] = _read_tensor(tensor)
    names = set(read_strings(table, _GRAPH_INPUTS))
    for value in read_tables(table, _GRAPH_VALUES):
        name = read_string(value, _VALUE_NAME)
        if name in names:
            graph.inputs[name] = _read_input(value)
    for node_table in read_tables(table, _GRAPH_NODES):
        node = _read_node(node_table)
        graph.add_node(node, _name_if_foreign(node))
    return graph


def _read_node(table: Table) -> Node:
    """Convert the table of an operator (Node in the schema) to a node."""
    return Node(
        read_string(table, _NODE_OPERATOR),
        read_string(table, _NODE_DOMAIN),
        tuple(read_strings(table, _NODE_INPUTS)),
        tuple(read_strings(table, _NODE_OUTPUTS)),
        dict(map(_read_attribute, read_tables(table, _NODE_ATTRIBUTES))),
    )


def _name_if_foreign(node: Node) -> str:
    """Name an operator for a message if it is neither an allowed one of ONNX nor a fused one."""
    if node.domain == _FUSED_DOMAIN and node.operator in _FUSED_OPERATORS:
        return ""
    return name_if_foreign(node.domain, node.operator)


def _read_attribute(table: Table) -> tuple[str, Any]:
    """Read the name and the value of an attribute."""
    kind = read_scalar(table, _ATTRIBUTE_TYPE, number_types.Int32Flags)
    value: Any = None
    if kind == _FLOAT:
        value = read_scalar(table, _ATTRIBUTE_FLOAT, number_types.Float32Flags)
    elif kind == _INT:
        value = read_scalar(table, _ATTRIBUTE_INT, number_types.Int64Flags)
    elif kind == _STRING:
        value = read_string(table, _ATTRIBUTE_STRING).encode("utf-8")
    elif kind == _TENSOR:
        tensor = read_table(table, _ATTRIBUTE_TENSOR)
        value = _read_tensor(tensor) if tensor else None
    elif kind == _FLOATS:
        value = read_numbers(table, _ATTRIBUTE_FLOATS, "<f4")
    elif kind == _INTS:
        value = read_numbers(table, _ATTRIBUTE_INTS, "<i8")
    return read_string(table, _ATTRIBUTE_NAME), value


def _read_tensor(table: Table) -> Constant:
    """Convert the table of a constant (Tensor in the schema); only small values are kept."""
    shape = tuple(read_numbers(table, _TENSOR_DIMS, "<i8"))
    element_type = read_scalar(table, _TENSOR_TYPE, number_types.Int32Flags)
    check_rank(shape)
    is_small = min(shape, default=0) >= 0 and prod(shape) <= MAX_KNOWN_VALUES
    return make_constant(
        shape, element_type, read_bytes(table, _TENSOR_RAW_DATA) if is_small else None
    )


def _read_input(table: Table) -> tuple[int | None, ...]:
    """Read the sizes of an input; None for one that the caller chooses."""
    info = read_table(table, _VALUE_TYPE)
    value = read_table(info, _TYPE_VALUE) if info else None
    if value is None:
        return ()
    shape = read_table(value, _TYPE_SHAPE)
    sizes: list[int | None] = []
    for dimension in read_tables(shape, _SHAPE_DIMS) if shape else ():
        number = read_table(dimension, _DIMENSION_VALUE)
        size = read_scalar(number, _DIMENSION_NUMBER, number_types.Int64Flags) if number else 0
        sizes.append(size if size > 0 else None)
    check_rank(sizes)
    return tuple(sizes)
