"""Small ONNX files with known multiply-accumulates in float32 or in 8-bit integers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="makes the test files")

ACTIVATION_SCALE, WEIGHT_SCALE = np.float32(0.05), np.float32(0.01)
BIAS_SCALE = np.float32(0.0005)
"""Integer kernels need biases with the product of both other scales."""


class OnnxGraphBuilder:
    """Builds an ONNX graph node by node.

    The methods that add a value to the graph return its name, which is the input of later nodes.
    """

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._rng = np.random.default_rng(0)

    def add_constant(self, value: Any) -> str:
        """Add a constant tensor (an ONNX initializer)."""
        name = f"c{len(self._constants)}"
        self._constants.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def add_node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output. It has no name, as in some exporters' files."""
        output = f"v{len(self._nodes)}"
        self._nodes.append(onnx.helper.make_node(op_type, inputs, [output], **attributes))
        return output

    def quantize(self, value: str, dtype: type = np.uint8) -> str:
        """Add nodes that quantize a value to 8 bits and dequantize it."""
        zero_point = dtype(128 if dtype == np.uint8 else 0)
        parameters = (self.add_constant(ACTIVATION_SCALE), self.add_constant(zero_point))
        quantized = self.add_node("QuantizeLinear", value, *parameters)
        return self.add_node("DequantizeLinear", quantized, *parameters)

    def add_int8_weights(self, *shape: int) -> str:
        """Add int8 weights with one scale per output channel, the first axis."""
        weights = self._rng.integers(-63, 64, shape, np.int8)
        return self._add_dequantized(weights, WEIGHT_SCALE)

    def add_bias(self, size: int, is_float: bool = False) -> str:
        """Add a bias in float32, or in int32 as integer kernels need it."""
        if is_float:
            return self.add_constant(np.ones(size, np.float32))
        return self._add_dequantized(np.ones(size, np.int32), BIAS_SCALE)

    def save(self, path: Path, input_shape: Sequence[Any], output_shape: Sequence[Any]) -> Path:
        """Save the graph. Its input is "x"; the last node computes its output "y"."""
        self._nodes[-1].output[0] = "y"
        inputs, outputs = (
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)]
            for name, shape in (("x", input_shape), ("y", output_shape))
        )
        graph = onnx.helper.make_graph(self._nodes, "test", inputs, outputs, self._constants)
        opset = onnx.helper.make_opsetid("", 18)
        onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
        return path

    def _add_dequantized(self, integers: Any, scale: np.float32) -> str:
        """Add integers and dequantize them with `scale` for each channel of their first axis."""
        channels = len(integers)
        parameters = (integers, np.full(channels, scale), np.zeros(channels, integers.dtype))
        return self.add_node("DequantizeLinear", *map(self.add_constant, parameters), axis=0)


def save_linear_layers(path: Path, has_float_bias: bool) -> Path:
    """Save a network of two int8 linear layers, with 64 inputs, 48 hidden values and 10 outputs.

    Args:
        path: File to write.
        has_float_bias: Whether the bias of the second layer is float32 instead of int32.
    """
    graph = OnnxGraphBuilder()
    hidden = graph.add_node(
        "Gemm", graph.quantize("x"), graph.add_int8_weights(48, 64), graph.add_bias(48), transB=1
    )
    weights, bias = graph.add_int8_weights(10, 48), graph.add_bias(10, has_float_bias)
    graph.add_node("Gemm", graph.quantize(hidden), weights, bias, transB=1)
    return graph.save(path, ("batch", 64), ("batch", 10))


def save_attention(path: Path, int8_products: int) -> Path:
    """Save an attention of 4 heads with 49 tokens of width 32, without linear layers.

    Queries, keys and values are the input times 0.5, 1.5 and 2.5.

    Args:
        path: File to write.
        int8_products: How many of the two matrix products have int8 operands: 0, 1 (queries and
            keys) or 2.
    """
    graph = OnnxGraphBuilder()
    query, key, value = (
        graph.add_node("Mul", "x", graph.add_constant(np.float32(0.5 + i))) for i in range(3)
    )
    if int8_products > 0:
        query, key = graph.quantize(query, np.int8), graph.quantize(key, np.int8)
    key = graph.add_node("Transpose", key, perm=[0, 1, 3, 2])
    scores = graph.add_node("Softmax", graph.add_node("MatMul", query, key), axis=-1)
    if int8_products > 1:
        scores, value = graph.quantize(scores, np.int8), graph.quantize(value, np.int8)
    graph.add_node("MatMul", scores, value)
    return graph.save(path, (1, 4, 49, 32), (1, 4, 49, 32))


def save_convolutions(path: Path, has_int8_activations: bool) -> Path:
    """Save a network of a 3 x 3 convolution and a depthwise convolution, both with int8 weights.

    Args:
        path: File to write.
        has_int8_activations: Whether activations are quantized too. Otherwise the weights are
            stored as integers, and the convolutions compute in float32.
    """
    graph = OnnxGraphBuilder()

    def maybe_quantize(value: str) -> str:
        return graph.quantize(value) if has_int8_activations else value

    weights, bias = graph.add_int8_weights(16, 8, 3, 3), graph.add_bias(16)
    value = graph.add_node("Conv", maybe_quantize("x"), weights, bias, pads=[1] * 4)
    weights, bias = graph.add_int8_weights(16, 1, 3, 3), graph.add_bias(16)
    value = graph.add_node(
        "Conv", maybe_quantize(value), weights, bias, pads=[1] * 4, strides=[2, 2], group=16
    )
    if has_int8_activations:
        graph.quantize(value)
    return graph.save(path, (1, 8, 20, 20), (1, 16, 10, 10))
