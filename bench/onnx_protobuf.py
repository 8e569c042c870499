"""ONNX models read and written as protobuf messages, as far as measuring needs it: a device has no onnx package.

Field numbers: onnx/onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyvit.runtimes.formats.protobuf import BYTES, VARINT, fields, varint

_GRAPH, _NODE, _INITIALIZER = 7, 1, 5
_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6}
_IR_VERSION, _OPSET = 8, 17


@dataclass(frozen=True)
class OnnxNode:
    """One operator: its name, the values it takes, and its whole-number attributes."""

    name: str
    inputs: tuple[str, ...]
    numbers: dict[str, int]


@dataclass(frozen=True)
class OnnxGraph:
    """Nodes by name, and the shape of each constant by name."""

    nodes: dict[str, OnnxNode]
    sizes: dict[str, tuple[int, ...]]


def read_graph(model: bytes) -> OnnxGraph:
    """The graph of a serialized model, not of those within its nodes. Raises ValueError where the bytes are none."""
    parts = [part for graph in _values(model, _GRAPH) for part in _messages(graph)]
    nodes = [_node(value) for number, value in parts if number == _NODE]
    return OnnxGraph(
        {node.name: node for node in nodes},
        dict(_size(value) for number, value in parts if number == _INITIALIZER),
    )


def with_names(model: bytes) -> bytes:
    """The model with its nodes named "node0", "node1", ...: files may leave names out, or use one twice."""
    made, count = bytearray(), 0
    for field in fields(model):
        if (field.number, field.wire) != (_GRAPH, BYTES):
            made += model[field.start : field.end]
            continue
        graph, inner = model[field.payload : field.end], bytearray()
        for part in fields(graph):
            if (part.number, part.wire) == (_NODE, BYTES):
                node = graph[part.payload : part.end]
                kept = b"".join(
                    node[each.start : each.end] for each in fields(node) if each.number != 3
                )
                inner += _bytes(_NODE, kept + _bytes(3, f"node{count}".encode()))
                count += 1
            else:
                inner += graph[part.start : part.end]
        made += _bytes(_GRAPH, bytes(inner))
    return bytes(made)


def one_product(
    kind: str, rows: int, weights: npt.NDArray[np.generic], taken: str, given: str
) -> bytes:
    """A model of one node `kind` (MatMul, MatMulInteger): x, `taken` (rows, K), times `weights` (K, N) -> y, `given` (rows, N)."""
    depth, columns = weights.shape
    graph = _bytes(
        1, _bytes(1, b"x") + _bytes(1, b"w") + _bytes(2, b"y") + _bytes(4, kind.encode())
    )
    graph += _bytes(2, b"product") + _bytes(5, _tensor("w", weights))
    graph += _bytes(11, _value_info("x", taken, (rows, depth))) + _bytes(
        12, _value_info("y", given, (rows, columns))
    )
    return (
        _number(1, _IR_VERSION)
        + _bytes(8, _bytes(1, b"") + _number(2, _OPSET))
        + _bytes(_GRAPH, graph)
    )


def _node(message: bytes) -> OnnxNode:
    inputs, name, numbers = [], "", {}
    for number, value in _messages(message):
        if number == 1:
            inputs.append(value.decode())
        elif number == 3:
            name = value.decode()
        elif number == 5:
            key = b"".join(_values(value, 1)).decode()
            for field, whole in _numbers(value):
                if field == 3:
                    numbers[key] = whole
    return OnnxNode(name, tuple(inputs), numbers)


def _size(message: bytes) -> tuple[str, tuple[int, ...]]:
    """(name, shape) of a tensor; dimensions come one a field, or packed."""
    shape = [whole for field, whole in _numbers(message) if field == 1]
    for packed in _values(message, 1):
        at = 0
        while at < len(packed):
            whole, at = varint(packed, at, len(packed))
            shape.append(whole)
    return b"".join(_values(message, 8)).decode(), tuple(shape)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    return (
        (field.number, data[field.payload : field.end])
        for field in fields(data)
        if field.wire == BYTES
    )


def _values(data: bytes, wanted: int) -> Iterator[bytes]:
    return (value for number, value in _messages(data) if number == wanted)


def _numbers(data: bytes) -> Iterator[tuple[int, int]]:
    """int64 values: of two's complement where they are negative."""
    for field in fields(data):
        if field.wire == VARINT:
            value = varint(data, field.payload, field.end)[0]
            yield field.number, value - (1 << 64) if value >> 63 else value


def _varint(value: int) -> bytes:
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*made, value))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | VARINT) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | BYTES) + _varint(len(value)) + value


def _tensor(name: str, values: npt.NDArray[np.generic]) -> bytes:
    dims = b"".join(_number(1, size) for size in values.shape)
    return (
        dims
        + _number(2, _TYPES[values.dtype.name])
        + _bytes(8, name.encode())
        + _bytes(9, values.tobytes())
    )


def _value_info(name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_bytes(1, _number(1, size)) for size in shape)
    return _bytes(1, name.encode()) + _bytes(
        2, _bytes(1, _number(1, _TYPES[dtype]) + _bytes(2, dims))
    )
