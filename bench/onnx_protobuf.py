"""Reads and writes ONNX models with `protobuf`, with a schema of the fields that benchmarks need.

The base install has no `onnx` package, but it has `protobuf`, on which every supported onnxruntime
(1.17 or later) depends.

The schema is built when this module is imported, and no generated `_pb2` file is checked in:
generated code runs only with a protobuf that is at least as new as the compiler that generated it,
and onnxruntime decides which version of protobuf is installed. The messages are in a separate
descriptor pool, so that they do not collide with those of an installed `onnx` package. Fields that
the schema leaves out are kept by protobuf as unknown fields and written unchanged. Field numbers
are those of onnx/onnx.proto3 in https://github.com/onnx/onnx.

`runtimes/formats/protobuf.py` parses the same format without `protobuf`, because it has to find the
manifest in a memory-mapped file without reading the weights, which `protobuf` cannot do. For this
module, `protobuf` is faster. An earlier version parsed in Python; on two cores of an Intel Xeon
(best of 5 runs, protobuf 7.36, November 2026) the change from Python to `protobuf` gave

    file                      rename all nodes   read the graph    peak memory
    demo.int8.onnx, 5 MiB      15 ->   4 ms       29 ->  3 ms       40 ->  29 MiB
    demo.onnx, 19 MiB          23 ->  21 ms       26 ->  4 ms      130 ->  95 MiB
    a model of 88 MiB         394 -> 158 ms      215 -> 48 ms      462 -> 353 MiB

Importing either version takes about 75 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6}
"""Name of a numpy dtype -> value of ONNX's enumeration TensorProto.DataType."""

_INT_ATTRIBUTE = 2
"""Value of ONNX's enumeration AttributeProto.AttributeType for a single integer."""

_IR_VERSION = 8
"""Version of the ONNX format in which models are written."""
_OPSET_VERSION = 17
"""Version of the ONNX operators in models that are written."""

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
    "Attribute": (("name", 1, "string"), ("i", 3, "int64"), ("type", 20, "int32")),
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
"""Name of a message -> its fields as (name, number, type).

The type is a scalar type or another message, after "repeated" if the field is a list.
"""

_PACKAGE = "tinyvit_onnx"
"""Protobuf package of the messages."""
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
            is_repeated = type_name != declaration
            field = message.field.add(name=name, number=number)
            field.label = field.LABEL_REPEATED if is_repeated else field.LABEL_OPTIONAL
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
        inputs: Names of the input values; "" for an optional input that is absent.
        int_attributes: Values of the attributes that are single integers, by the attribute's name.
    """

    name: str
    inputs: tuple[str, ...]
    int_attributes: dict[str, int]


@dataclass(frozen=True)
class OnnxGraph:
    """The main graph of a model.

    Attributes:
        nodes: The nodes, by name.
        constant_shapes: The shape of each initializer (constant tensor), by name.
    """

    nodes: dict[str, OnnxNode]
    constant_shapes: dict[str, tuple[int, ...]]


def read_graph(model: bytes) -> OnnxGraph:
    """Read the main graph of a serialized model. Subgraphs inside its nodes are not read.

    The nodes must have unique names (see `with_unique_node_names`). If several nodes have the
    same name, only the last one is in the result.

    Args:
        model: A serialized ModelProto.

    Raises:
        ValueError: `model` is not a serialized ModelProto.
    """
    graph = parse_model(model).graph
    nodes = {}
    for node in graph.node:
        int_attributes = {
            attribute.name: attribute.i for attribute in node.attribute if _is_int(attribute)
        }
        nodes[node.name] = OnnxNode(node.name, tuple(node.input), int_attributes)
    constant_shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    return OnnxGraph(nodes, constant_shapes)


def with_unique_node_names(model: bytes) -> bytes:
    """Rename the nodes of the main graph to "node0", "node1", ... in their order.

    onnxruntime's profile identifies nodes by name, but names may be missing or not unique.

    Args:
        model: A serialized ModelProto.

    Returns:
        The serialized model with the new names and no other change.

    Raises:
        ValueError: `model` is not a serialized ModelProto.
    """
    message = parse_model(model)
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
    """Build a model of one matrix product: output "y" is input "x" times the constant `weights`.

    Args:
        op_type: The ONNX operator, "MatMul" or "MatMulInteger".
        rows: Number of rows of "x" and "y".
        weights: The constant, (K, N), float32 or int8.
        input_dtype: Name of the numpy dtype of "x", (rows, K).
        output_dtype: Name of the numpy dtype of "y", (rows, N).

    Returns:
        The serialized ModelProto.
    """
    input_columns, output_columns = weights.shape
    model = _Model(ir_version=_IR_VERSION)
    model.opset_import.add(domain="", version=_OPSET_VERSION)
    graph = model.graph
    graph.name = "product"
    graph.node.add(input=["x", "w"], output=["y"], op_type=op_type)
    graph.initializer.add(
        dims=weights.shape,
        data_type=ELEMENT_TYPES[weights.dtype.name],
        name="w",
        raw_data=weights.tobytes(),
    )
    _describe_value(graph.input.add(name="x"), input_dtype, (rows, input_columns))
    _describe_value(graph.output.add(name="y"), output_dtype, (rows, output_columns))
    return bytes(model.SerializeToString())


def parse_model(model: bytes) -> Any:
    """Parse a serialized model into a message that can be changed.

    Args:
        model: A serialized ModelProto.

    Returns:
        A message with the fields of `_FIELDS`.

    Raises:
        ValueError: `model` is not a serialized ModelProto.
    """
    try:
        return _Model.FromString(model)
    except DecodeError as error:
        raise ValueError(f"the bytes are not an ONNX message ({error})") from error


def _is_int(attribute: Any) -> bool:
    """Return whether an attribute is a single integer.

    If the integer is 0, some writers omit the field `i`. Writers of ONNX's first version state no
    type.
    """
    if attribute.HasField("type"):
        return bool(attribute.type == _INT_ATTRIBUTE)
    return bool(attribute.HasField("i"))


def _describe_value(value: Any, dtype: str, shape: tuple[int, ...]) -> None:
    """Set the element type and the shape of a ValueInfo message."""
    value.type.tensor_type.elem_type = ELEMENT_TYPES[dtype]
    for size in shape:
        value.type.tensor_type.shape.dim.add(dim_value=size)
