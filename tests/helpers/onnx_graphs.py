"""Small ONNX files with known multiply-accumulates in float32 or in 8-bit integers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="makes the test files")

ACTIVATION_SCALE, WEIGHT_SCALE, BIAS_SCALE = (np.float32(s) for s in (0.05, 0.01, 0.0005))


class OnnxGraphBuilder:
    """Builds an ONNX file node by node; the methods that add something return the value's name."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._rng = np.random.default_rng(0)

    def add_constant(self, value: Any) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def add_node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node without a name, which files may have, and return its output."""
        output = f"v{len(self._nodes)}"
        self._nodes.append(onnx.helper.make_node(op_type, inputs, [output], **attributes))
        return output

    def quantize(self, value: str, dtype: type = np.uint8) -> str:
        """Round a value to 8-bit integers and back."""
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
        """Save the graph; its input is "x", and its last node computes the output "y"."""
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
        """Add integers with the same scale for each channel of their first axis."""
        channels = len(integers)
        parameters = (integers, np.full(channels, scale), np.zeros(channels, integers.dtype))
        return self.add_node("DequantizeLinear", *map(self.add_constant, parameters), axis=0)


def save_linear_layers(path: Path, has_float_bias: bool) -> Path:
    """Save two int8 linear layers, 64 to 48 to 10; the second one's bias may be float32."""
    graph = OnnxGraphBuilder()
    hidden = graph.add_node(
        "Gemm", graph.quantize("x"), graph.add_int8_weights(48, 64), graph.add_bias(48), transB=1
    )
    weights, bias = graph.add_int8_weights(10, 48), graph.add_bias(10, has_float_bias)
    graph.add_node("Gemm", graph.quantize(hidden), weights, bias, transB=1)
    return graph.save(path, ("batch", 64), ("batch", 10))


def save_attention(path: Path, int8_products: int) -> Path:
    """Save softmax(x x') x of 4 heads, 49 tokens, width 32.

    Args:
        path: Where to save it.
        int8_products: How many of the two products use 8-bit integers: none, the first, or both.
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
    """Save a 3 x 3 and a depthwise convolution with int8 weights.

    Without int8 activations the weights are only stored as integers.
    """
    graph = OnnxGraphBuilder()

    def activation(value: str) -> str:
        return graph.quantize(value) if has_int8_activations else value

    weights, bias = graph.add_int8_weights(16, 8, 3, 3), graph.add_bias(16)
    value = graph.add_node("Conv", activation("x"), weights, bias, pads=[1] * 4)
    weights, bias = graph.add_int8_weights(16, 1, 3, 3), graph.add_bias(16)
    value = graph.add_node(
        "Conv", activation(value), weights, bias, pads=[1] * 4, strides=[2, 2], group=16
    )
    if has_int8_activations:
        graph.quantize(value)
    return graph.save(path, (1, 8, 20, 20), (1, 16, 10, 10))
