"""Helpers to read, change and write a .tflite model.

A .tflite file is a flatbuffer: binary data whose tables are defined by a schema. In this folder, a
model is a `ModelT` of `ai_edge_litert.schema_py_generated`: these tables as Python objects.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_OPERATOR_VERSION = 2
"""Version of an operator that supports int8, for every operator added here except DEQUANTIZE."""

_DEQUANTIZE_VERSION = 3
"""Version of the operator DEQUANTIZE that also supports float16."""

BUFFER_ALIGNMENT = 16
"""Alignment of every buffer, in bytes.

The schema requires it (Buffer.data, force_align: 16), but the generated Python code ignores it.
"""

_FILE_IDENTIFIER = b"TFL3"

_INITIAL_SIZE = 1024
"""Number of bytes that the builder of a flatbuffer starts with; it grows as needed."""


def parse_model(data: bytes) -> Any:
    """Parse a .tflite file.

    Args:
        data: The file's bytes.

    Returns:
        The model.
    """
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(data)


def serialize_model(model: Any) -> bytes:
    """Serialize a model with every buffer aligned.

    Args:
        model: The model.

    Returns:
        The bytes of a .tflite file.
    """
    import flatbuffers

    class AligningBuilder(flatbuffers.Builder):  # type: ignore[misc]
        """Aligns all vectors of bytes, because every buffer is a vector of bytes."""

        def CreateNumpyVector(self, values: Any) -> int:
            """Write a vector; the generated code calls this method for each array."""
            alignment = BUFFER_ALIGNMENT if values.itemsize == 1 else values.itemsize
            self.StartVector(values.itemsize, values.size, alignment)
            self.head -= values.nbytes
            self.Bytes[self.head : self.head + values.nbytes] = values.tobytes()
            self.vectorNumElems = values.size
            return int(self.EndVector())

    builder = AligningBuilder(_INITIAL_SIZE)
    builder.Finish(model.Pack(builder), _FILE_IDENTIFIER)
    return bytes(builder.Output())


def set_metadata(model: Any, name: str, data: bytes) -> None:
    """Store metadata in a model, replacing metadata of the same name.

    Args:
        model: The model to change in place.
        name: Name of the metadata entry.
        data: Content of its buffer.
    """
    from ai_edge_litert import schema_py_generated as schema

    entry = next((entry for entry in model.metadata if entry.name == name), None)
    if entry is None:
        model.buffers = [*model.buffers, schema.BufferT()]
        entry = schema.MetadataT()
        entry.name = name
        entry.buffer = len(model.buffers) - 1
        model.metadata = [*model.metadata, entry]
    model.buffers[entry.buffer].data = np.frombuffer(data, np.uint8)


def find_operator_kind(model: Any, operator: Any) -> int:
    """Find the kind of an operator, such as GELU, in the model's list of operator codes.

    Args:
        model: The model that contains the operator.
        operator: The operator.

    Returns:
        A value of the schema's `BuiltinOperator`.
    """
    code = model.operatorCodes[operator.opcodeIndex]
    # Old files use only `deprecatedBuiltinCode`, which cannot represent large values.
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))


def find_or_add_operator_code(model: Any, kind: int) -> int:
    """Find a kind of operator in a model's list of operator codes; add it if it is missing.

    Args:
        model: The model to change in place.
        kind: A value of the schema's `BuiltinOperator`.

    Returns:
        Index in the list of operator codes.
    """
    from ai_edge_litert import schema_py_generated as schema

    for i, code in enumerate(model.operatorCodes):
        if code.builtinCode == kind:
            return i
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = kind
    is_dequantize = kind == schema.BuiltinOperator.DEQUANTIZE
    code.version = _DEQUANTIZE_VERSION if is_dequantize else _OPERATOR_VERSION
    model.operatorCodes = [*model.operatorCodes, code]
    return len(model.operatorCodes) - 1


def make_operator(model: Any, kind: int, source: int, result: int) -> Any:
    """Make an operator with one input and one output, which the caller puts into the graph.

    Args:
        model: The model; its list of operator codes may grow.
        kind: A value of the schema's `BuiltinOperator`.
        source: Index of the input tensor.
        result: Index of the output tensor.

    Returns:
        The operator.
    """
    from ai_edge_litert import schema_py_generated as schema

    operator = schema.OperatorT()
    operator.opcodeIndex = find_or_add_operator_code(model, kind)
    operator.inputs, operator.outputs = make_tensor_list(source), make_tensor_list(result)
    return operator


def add_float32_tensor(graph: Any, like: int) -> int:
    """Add a float32 tensor with the shape of another tensor.

    Args:
        graph: The subgraph to change in place.
        like: Index of the tensor whose shape is copied.

    Returns:
        Index of the new tensor.
    """
    from ai_edge_litert import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.shape, tensor.hasRank = graph.tensors[like].shape, graph.tensors[like].hasRank
    tensor.type = schema.TensorType.FLOAT32
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def make_tensor_list(*indices: int) -> npt.NDArray[np.int32]:
    """Make a list of tensors for the inputs or outputs of an operator.

    Args:
        indices: Indices of the tensors.

    Returns:
        int32 (number of tensors,).
    """
    return np.array(indices, np.int32)
