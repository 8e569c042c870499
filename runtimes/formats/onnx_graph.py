"""Reads the operators of an ONNX model as a `NetworkGraph`.

The field numbers come from onnx/onnx.proto3 in https://github.com/onnx/onnx.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from tinyvit.runtimes.formats.network_graph import (
    MAX_KNOWN_VALUES,
    Constant,
    NetworkGraph,
    Node,
    check_rank,
    make_constant,
)
from tinyvit.runtimes.formats.onnx_operators import name_if_foreign
from tinyvit.runtimes.formats.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Buffer,
    Field,
    FieldBudget,
    iterate_fields,
    read_varint,
)

# Field numbers of ModelProto, GraphProto, NodeProto, AttributeProto and TensorProto.
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_SPARSE_INITIALIZER = 1, 5, 11, 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_FLOAT, _ATTRIBUTE_INT, _ATTRIBUTE_STRING = 1, 2, 3, 4
_ATTRIBUTE_TENSOR, _ATTRIBUTE_FLOATS, _ATTRIBUTE_INTS, _ATTRIBUTE_SPARSE = 5, 7, 8, 22
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW_DATA = 1, 2, 8, 9
_TENSOR_FLOATS, _TENSOR_INT32S, _TENSOR_INT64S, _TENSOR_EXTERNAL = 4, 5, 7, 13
# Field numbers of ValueInfoProto, TypeProto, TypeProto.Tensor, TensorShapeProto and Dimension.
_INFO_NAME, _INFO_TYPE, _TYPE_TENSOR, _TYPE_SHAPE, _SHAPE_DIM, _DIM_VALUE = 1, 2, 1, 2, 1, 1
# Field numbers of StringStringEntryProto.
_ENTRY_KEY, _ENTRY_VALUE = 1, 2

_SPARSE = "it contains a sparse tensor, whose size in memory has no limit"


def read_graph(model: memoryview) -> NetworkGraph:
    """Read the graph of a model.

    Args:
        model: The model, a serialized ModelProto.

    Returns:
        The graph. If the model states it in several parts, as protobuf allows, all are read.

    Raises:
        ValueError: If the bytes are not a ModelProto, if a message in it has more than 100,000
            fields, if all have more than `protobuf.MAX_FILE_FIELDS`, or if it contains a sparse
            tensor.
    """
    graph, budget = NetworkGraph(), FieldBudget()
    for field in iterate_fields(model, budget):
        if (field.number, field.wire_type) == (_MODEL_GRAPH, BYTES):
            _add_graph(_slice(model, field), graph, budget)
        elif field.number == _MODEL_FUNCTIONS:
            graph.foreign_operators.add("a function")
    return graph


def _add_graph(message: memoryview, graph: NetworkGraph, budget: FieldBudget) -> None:
    """Add the contents of a part of the graph (GraphProto)."""
    for field in iterate_fields(message, budget):
        if field.wire_type != BYTES:
            continue
        if field.number == _GRAPH_NODE:
            node = _read_node(bytes(_slice(message, field)), budget)
            graph.add_node(node, name_if_foreign(node.domain, node.operator))
        elif field.number == _GRAPH_INITIALIZER:
            tensor = _slice(message, field)
            name, constant = _read_tensor(tensor, budget)
            graph.constants[name] = constant
            graph.external_files |= _list_external_files(tensor, budget)
        elif field.number == _GRAPH_INPUT:
            name, sizes = _read_input(bytes(_slice(message, field)), budget)
            graph.inputs[name] = sizes
        elif field.number == _GRAPH_SPARSE_INITIALIZER:
            raise ValueError(_SPARSE)


def _list_messages(message: memoryview, number: int, budget: FieldBudget) -> Iterator[memoryview]:
    """Yield the messages in the fields of a message that have a number."""
    for field in iterate_fields(message, budget):
        if (field.number, field.wire_type) == (number, BYTES):
            yield _slice(message, field)


def _read_node(message: bytes, budget: FieldBudget) -> Node:
    """Read a node (NodeProto)."""
    inputs: list[str] = []
    outputs: list[str] = []
    attributes: dict[str, Any] = {}
    operator = domain = ""
    for number, wire_type, _start, value_start, end in iterate_fields(message, budget):
        if wire_type != BYTES:
            continue
        value = message[value_start:end]
        if number == _NODE_INPUT:
            inputs.append(value.decode("utf-8", "replace"))
        elif number == _NODE_OUTPUT:
            outputs.append(value.decode("utf-8", "replace"))
        elif number == _NODE_OPERATOR:
            operator = value.decode("utf-8", "replace")
        elif number == _NODE_DOMAIN:
            domain = value.decode("utf-8", "replace")
        elif number == _NODE_ATTRIBUTE:
            name, attribute = _read_attribute(value, budget)
            attributes[name] = attribute
    return Node(operator, domain, tuple(inputs), tuple(outputs), attributes)


def _read_attribute(message: bytes, budget: FieldBudget) -> tuple[str, Any]:
    """Read the name and the value of an attribute (AttributeProto)."""
    name, value = "", None
    numbers: list[Any] = []
    for field in iterate_fields(message, budget):
        data = message[field.value_start : field.end]
        if field.number == _ATTRIBUTE_NAME:
            name = data.decode("utf-8", "replace")
        elif field.number in (_ATTRIBUTE_INT, _ATTRIBUTE_STRING, _ATTRIBUTE_FLOAT):
            value = _read_scalar(field, message, budget)
        elif field.number == _ATTRIBUTE_TENSOR and field.wire_type == BYTES:
            if _list_external_files(memoryview(data), budget):
                raise ValueError("the value of an attribute is in another file")
            _name, value = _read_tensor(memoryview(data), budget)
        elif field.number == _ATTRIBUTE_INTS:
            numbers += _read_integers(field, message, budget)
            value = numbers
        elif field.number == _ATTRIBUTE_FLOATS:
            numbers += _read_floats(field, message)
            value = numbers
        elif field.number == _ATTRIBUTE_SPARSE:
            raise ValueError(_SPARSE)
    return name, value


def _read_scalar(field: Field, message: Buffer, budget: FieldBudget) -> Any:
    """Read a number or a text, by its wire type."""
    if field.wire_type == VARINT:
        return _read_integers(field, message, budget)[0]
    if field.wire_type == FIXED32:
        return _read_floats(field, message)[0]
    return bytes(message[field.value_start : field.end])


def _read_integers(field: Field, message: Buffer, budget: FieldBudget) -> list[int]:
    """Read a signed number, or a list of them."""
    position, numbers = field.value_start, []
    if field.wire_type not in (VARINT, BYTES):
        return []
    # A number has at least one byte.
    budget.spend(field.end - position)
    while position < field.end:
        number, position = read_varint(message, position, field.end)
        numbers.append((number + 2**63) % 2**64 - 2**63)
    return numbers


def _read_floats(field: Field, message: Buffer) -> list[float]:
    """Read a float32, or a list of them."""
    data = bytes(message[field.value_start : field.end])
    if field.wire_type == FIXED64 or len(data) % 4:
        raise ValueError("a list of numbers has another size")
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def _read_tensor(message: memoryview, budget: FieldBudget) -> tuple[str, Constant]:
    """Read the name and the description of a constant (TensorProto)."""
    name, element_type, dims = "", 0, list[int]()
    fields = list(iterate_fields(message, budget))
    for field in fields:
        if field.number == _TENSOR_NAME:
            name = bytes(_slice(message, field)).decode("utf-8", "replace")
        elif field.number == _TENSOR_DIMS:
            dims += _read_integers(field, message, budget)
        elif field.number == _TENSOR_TYPE and field.wire_type == VARINT:
            element_type = _read_integers(field, message, budget)[0]
    shape = tuple(dims)
    check_rank(shape)
    count = prod(shape)
    if count > MAX_KNOWN_VALUES or min(shape, default=0) < 0:
        return name, make_constant(shape, element_type, None)
    return name, make_constant(
        shape, element_type, _read_data(message, fields, element_type, count, budget)
    )


def _list_external_files(tensor: memoryview, budget: FieldBudget) -> set[str]:
    """Return the names of the files that contain the data of a constant."""
    names = set()
    for entry in _list_messages(tensor, _TENSOR_EXTERNAL, budget):
        values = {
            field.number: bytes(_slice(entry, field)) for field in iterate_fields(entry, budget)
        }
        if values.get(_ENTRY_KEY) == b"location":
            names.add(values.get(_ENTRY_VALUE, b"").decode("utf-8", "replace"))
    return names


def _read_data(
    message: memoryview, fields: list[Field], element_type: int, count: int, budget: FieldBudget
) -> bytes | None:
    """Read the data of a small constant; None if it is in another form than expected."""
    parts: list[Any] = []
    for field in fields:
        if (field.number, field.wire_type) == (_TENSOR_RAW_DATA, BYTES):
            return bytes(_slice(message, field))
        if field.number in (_TENSOR_INT64S, _TENSOR_INT32S):
            parts += _read_integers(field, message, budget)
        elif field.number == _TENSOR_FLOATS:
            parts += _read_floats(field, message)
    types = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_}
    if len(parts) != count or element_type not in types:
        return None
    return (
        np.array(parts, np.float64 if element_type == 1 else np.int64)
        .astype(types[element_type])
        .tobytes()
    )


def _read_input(message: bytes, budget: FieldBudget) -> tuple[str, tuple[int | None, ...]]:
    """Read the name and the sizes of an input (ValueInfoProto)."""
    name, sizes = "", list[int | None]()
    for field in iterate_fields(message, budget):
        if field.number == _INFO_NAME:
            name = message[field.value_start : field.end].decode("utf-8", "replace")
    for info_type in _list_messages(memoryview(message), _INFO_TYPE, budget):
        for tensor in _list_messages(info_type, _TYPE_TENSOR, budget):
            for shape in _list_messages(tensor, _TYPE_SHAPE, budget):
                sizes += [
                    _read_dimension(dim, budget)
                    for dim in _list_messages(shape, _SHAPE_DIM, budget)
                ]
    check_rank(sizes)
    return name, tuple(sizes)


def _read_dimension(message: memoryview, budget: FieldBudget) -> int | None:
    """Return a size; None if the caller chooses it."""
    size = None
    for field in iterate_fields(message, budget):
        if (field.number, field.wire_type) == (_DIM_VALUE, VARINT):
            size = _read_integers(field, message, budget)[0]
    return size if size is not None and size > 0 else None


def _slice(message: memoryview, field: Field) -> memoryview:
    """Return the value of a field without copying it."""
    return message[field.value_start : field.end]
