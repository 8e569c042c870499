"""A small TensorFlow Lite model as objects of the format's schema, which tests can change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

WEIGHTS = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
"""Weights of the linear layer, (outputs, inputs)."""

SCALES = {"input": 0.05, "weight": 0.02, "output": 0.1}
"""Scales of the linear layer's int8 tensors."""

INT8_WEIGHTS = np.round(WEIGHTS / SCALES["weight"]).clip(-127, 127)
"""`WEIGHTS` as int8 values, in units of their scale."""

_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int8): schema.TensorType.INT8,
}
_LINEAR_VERSION, _OTHER_VERSION = 4, 2
"""Versions of TensorFlow Lite's operators that allow int8 tensors."""


class ModelBuilder:
    """Builds a model with one subgraph.

    Args:
        zero_point: Zero point of all quantized tensors.

    Attributes:
        model: The schema's ModelT.
        graph: The schema's SubGraphT.
    """

    def __init__(self, zero_point: int = 0) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers, self.model.operatorCodes = [schema.BufferT()], []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]
        self._zero_point = zero_point

    def add_tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        values: Any = None,
        scale: float = 0,
    ) -> int:
        """Add a tensor and return its index.

        Args:
            name: Name of the tensor.
            shape: Shape of the tensor.
            dtype: Type of its elements: float32, int32 or int8.
            values: Elements of a constant; None for a computed tensor.
            scale: Scale of a quantized tensor; 0 for a tensor that is not quantized.
        """
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.hasRank = name, _TYPES[np.dtype(dtype)], True
        tensor.shape = np.array(shape, np.int32)
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.ascontiguousarray(values, dtype).reshape(-1).view(np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        if scale:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.array([scale], np.float32)
            tensor.quantization.zeroPoint = np.array([self._zero_point], np.int64)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def add_operator(
        self, builtin: int, inputs: Sequence[int], output: int, options: Any = None
    ) -> None:
        """Add an operator with an operator code of its own.

        Args:
            builtin: A value of the schema's BuiltinOperator.
            inputs: Indices of the input tensors; -1 for an optional input that is missing.
            output: Index of the output tensor.
            options: The schema's options of this kind of operator, if it has any.
        """
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode, code.deprecatedBuiltinCode = builtin, min(builtin, 127)
        is_linear = builtin == schema.BuiltinOperator.FULLY_CONNECTED
        code.version = _LINEAR_VERSION if is_linear else _OTHER_VERSION
        self.model.operatorCodes.append(code)
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs = np.array(inputs, np.int32)
        operator.outputs = np.array([output], np.int32)
        if options is not None:
            operator.builtinOptions = options
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        self.graph.operators.append(operator)


def build_model(
    int8: bool = False, scales: Mapping[str, float] = SCALES, zero_point: int = 0
) -> Any:
    """Build a network that averages an image (1, 8, 8, 3) and applies a linear layer: (1, 10).

    Args:
        int8: Whether the linear layer computes in int8.
        scales: Scales of the int8 tensors.
        zero_point: Zero point of the int8 tensors.

    Returns:
        The schema's ModelT.
    """
    builder, builtins = ModelBuilder(zero_point), schema.BuiltinOperator
    image = builder.add_tensor("image", [1, 8, 8, 3], np.float32)
    mean = builder.add_tensor("mean", [1, 3], np.float32)
    axes = builder.add_tensor("axes", [2], np.int32, [1, 2])
    builder.add_operator(builtins.MEAN, [image, axes], mean, schema.ReducerOptionsT())
    logits = builder.add_tensor("logits", [1, 10], np.float32)
    linear_options = schema.FullyConnectedOptionsT()
    if int8:
        inputs = builder.add_tensor("input", [1, 3], np.int8, None, scales["input"])
        weight = builder.add_tensor("weight", [10, 3], np.int8, INT8_WEIGHTS, scales["weight"])
        output = builder.add_tensor("output", [1, 10], np.int8, None, scales["output"])
        builder.add_operator(builtins.QUANTIZE, [mean], inputs)
        builder.add_operator(builtins.FULLY_CONNECTED, [inputs, weight, -1], output, linear_options)
        builder.add_operator(builtins.DEQUANTIZE, [output], logits)
    else:
        weight = builder.add_tensor("weight", [10, 3], np.float32, WEIGHTS)
        builder.add_operator(builtins.FULLY_CONNECTED, [mean, weight, -1], logits, linear_options)
    builder.graph.inputs = np.array([image], np.int32)
    builder.graph.outputs = np.array([logits], np.int32)
    return builder.model


def serialize_model(model: Any) -> bytes:
    """Return a ModelT as the bytes of a .tflite file."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
