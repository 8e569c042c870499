"""Reads and writes ONNX models with `protobuf`, with a schema of the fields that profiling needs.

The base install has no `onnx` package, but it has `protobuf`, on which every supported onnxruntime
(1.17 or later) depends. An earlier version parsed the wire format in Python. On two cores of an
Intel Xeon (best of 5 runs, protobuf 7.36, November 2026), in Python -> with protobuf:

    file                      name all nodes     read the graph    peak memory
    demo.int8.onnx, 5 MiB      15 ->   4 ms       29 ->  3 ms       40 ->  29 MiB
    demo.onnx, 19 MiB          23 ->  21 ms       26 ->  4 ms      130 ->  95 MiB
    a model of 88 MiB         394 -> 158 ms      215 -> 48 ms      462 -> 353 MiB

Importing either version takes about 75 ms. `runtimes/formats/protobuf.py` still parses the wire
format in Python, because it finds the manifest in a file that is mapped into memory without reading
the weights, which `protobuf` cannot do.

The schema is built when this module is imported, and no generated `_pb2` file is checked in:
generated code runs only with a protobuf at least as new as its compiler, and onnxruntime decides
which version of protobuf is installed. The messages are in a separate descriptor pool, so that they
do not collide with those of an installed `onnx` package. protobuf keeps fields that the schema
leaves out as unknown fields, and writes them unchanged.

Field numbers are those of onnx/onnx.proto3 in https://github.com/onnx/onnx.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

_ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6}
"""Values of TensorProto.DataType, by the name of the numpy dtype."""

_IR_VERSION = 8
_OPSET_VERSION = 17

_FIELDS: dict[str, tuple[tuple[str, int, str], ...]] = {
    "Model": (
        ("ir_version", 1, "int64"),
        ("graph", 7, "Graph"),
        ("opset_import", 8, "repeated OperatorSet"),
    ),
    "OperatorSet": (("domain", 1, "string"), ("version", 2, "int64")),
    "Graph": (
        ("node", 1, "repeated Node"),
        ("name", 2, "string"),
        ("initializer", 5, "repeated Tensor"),
        ("input", 11, "repeated ValueInfo"),
        ("output", 12, "repeated ValueInfo"),
    ),
    "Node": (
        ("input", 1, "repeated string"),
        ("output", 2, "repeated string"),
        ("name", 3, "string"),
        ("op_type", 4, "string"),
        ("attribute", 5, "repeated Attribute"),
    ),
    "Attribute": (("name", 1, "string"), ("i", 3, "int64")),
    "Tensor": (
        ("dims", 1, "repeated int64"),
        ("data_type", 2, "int32"),
        ("name", 8, "string"),
        ("raw_data", 9, "bytes"),
    ),
    "ValueInfo": (("name", 1, "string"), ("type", 2, "Type")),
    "Type": (("tensor_type", 1, "TensorType"),),
    "TensorType": (("elem_type", 1, "int32"), ("shape", 2, "Shape")),
    "Shape": (("dim", 1, "repeated Dimension"),),
    "Dimension": (("dim_value", 1, "int64"),),
}
"""Message name -> fields as (name, number, type); the type is a scalar type or a message name."""

_PACKAGE = "tinyvit_onnx"
_SCALAR_TYPES = {
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
}


def _build_model_class() -> Any:
    """Build the class of the Model message from `_FIELDS`."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto2"
    )
    for message_name, fields in _FIELDS.items():
        message = file.message_type.add(name=message_name)
        for name, number, declaration in fields:
            type_name = declaration.removeprefix("repeated ")
            field = message.field.add(name=name, number=number)
            field.label = field.LABEL_REPEATED if type_name != declaration else field.LABEL_OPTIONAL
            field.type = _SCALAR_TYPES.get(type_name, field.TYPE_MESSAGE)
            if type_name not in _SCALAR_TYPES:
                field.type_name = f".{_PACKAGE}.{type_name}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Model"))


_Model = _build_model_class()


@dataclass(frozen=True)
class OnnxNode:
    """One node of a graph.

    Attributes:
        name: Name of the node.
        inputs: Names of its input values; "" for an optional input that is absent.
        int_attributes: Values of its attributes that are single integers, by name.
    """

    name: str
    inputs: tuple[str, ...]
    int_attributes: dict[str, int]


@dataclass(frozen=True)
class OnnxGraph:
    """The main graph of a model.

    Attributes:
        nodes: The nodes by name.
        constant_shapes: The shape of each initializer by name.
    """

    nodes: dict[str, OnnxNode]
    constant_shapes: dict[str, tuple[int, ...]]


def read_graph(model: bytes) -> OnnxGraph:
    """Read the main graph of a serialized model; subgraphs of its nodes are left out.

    Args:
        model: A serialized ModelProto.

    Raises:
        ValueError: The bytes are not such a message.
    """
    graph = _parse(model).graph
    nodes = (
        OnnxNode(
            node.name,
            tuple(node.input),
            {
                attribute.name: attribute.i
                for attribute in node.attribute
                if attribute.HasField("i")
            },
        )
        for node in graph.node
    )
    return OnnxGraph(
        {node.name: node for node in nodes},
        {tensor.name: tuple(tensor.dims) for tensor in graph.initializer},
    )


def with_unique_node_names(model: bytes) -> bytes:
    """Name the nodes of the main graph "node0", "node1", ... in their order.

    A profile identifies nodes by their names, which may be missing or not unique in a file.

    Args:
        model: A serialized ModelProto.

    Returns:
        The serialized model with the new names and no other change.

    Raises:
        ValueError: The bytes are not such a message.
    """
    message = _parse(model)
    for index, node in enumerate(message.graph.node):
        node.name = f"node{index}"
    return bytes(message.SerializeToString())


def build_matrix_product_model(
    op_type: str,
    rows: int,
    weights: npt.NDArray[np.generic],
    input_dtype: str,
    output_dtype: str,
) -> bytes:
    """Build a model of one matrix product, "y" = "x" times the constant `weights`.

    Args:
        op_type: The ONNX operator, "MatMul" or "MatMulInteger".
        rows: Rows of "x" and "y".
        weights: The constant, (K, N), float32 or int8.
        input_dtype: dtype of "x", (rows, K).
        output_dtype: dtype of "y", (rows, N).

    Returns:
        The serialized ModelProto.
    """
    depth, columns = weights.shape
    model = _Model(ir_version=_IR_VERSION)
    model.opset_import.add(domain="", version=_OPSET_VERSION)
    graph = model.graph
    graph.name = "product"
    graph.node.add(input=["x", "w"], output=["y"], op_type=op_type)
    graph.initializer.add(
        dims=weights.shape,
        data_type=_ELEMENT_TYPES[weights.dtype.name],
        name="w",
        raw_data=weights.tobytes(),
    )
    _describe_value(graph.input.add(name="x"), input_dtype, (rows, depth))
    _describe_value(graph.output.add(name="y"), output_dtype, (rows, columns))
    return bytes(model.SerializeToString())


def _parse(model: bytes) -> Any:
    """Parse a serialized model, and raise ValueError instead of protobuf's own error."""
    try:
        return _Model.FromString(model)
    except DecodeError as error:
        raise ValueError(f"the bytes are not an ONNX message ({error})") from error


def _describe_value(value: Any, dtype: str, shape: tuple[int, ...]) -> None:
    """Set the element type and the shape of a ValueInfo message."""
    value.type.tensor_type.elem_type = _ELEMENT_TYPES[dtype]
    for size in shape:
        value.type.tensor_type.shape.dim.add(dim_value=size)
