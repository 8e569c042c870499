"""An int8 .onnx model of two linear layers, whose errors can be computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="makes the test files")

IDENTITY = np.eye(2, dtype=np.float32)
WEIGHTS = {"first.weight": IDENTITY, "second.weight": IDENTITY}
"""The float32 weights of both layers."""


class TwoLayers:
    """Builds a model of linear layers with two inputs and two outputs, node by node."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node with one output, and return the name of the output."""
        self.nodes.append(onnx.helper.make_node(op_type, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        """Add a constant tensor (an ONNX initializer), and return its name."""
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def round(self, value: str, name: str, scale: float) -> str:
        """Add nodes that round a value to multiples of a scale."""
        parameters = [
            self.constant(f"{name}_scale", np.float32(scale)),
            self.constant(f"{name}_zero", np.uint8(128)),
        ]
        quantized = self.add("QuantizeLinear", [value, *parameters], f"{name}_quantized")
        return self.add("DequantizeLinear", [quantized, *parameters], f"{name}_rounded")

    def linear(self, value: str, name: str, scale: float, output: str) -> str:
        """Add an int8 layer whose weights are the identity; `scale` is that of its input."""
        weight = [
            self.constant(f"{name}.weight", np.eye(2, dtype=np.int8)),
            self.constant(f"{name}_weight_scale", np.ones(2, np.float32)),
            self.constant(f"{name}_weight_zero", np.zeros(2, np.int8)),
        ]
        dequantized = self.add("DequantizeLinear", weight, f"{name}_weight", axis=0)
        rounded = self.round(value, name, scale)
        return self.add("Gemm", [rounded, dequantized], output, transB=1)

    def serialize(self) -> bytes:
        """Return the model with the input "image" and the output "logits", float32 (batch, 2)."""
        inputs, outputs = (
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ("batch", 2))]
            for name in ("image", "logits")
        )
        graph = onnx.helper.make_graph(self.nodes, "test", inputs, outputs, self.constants)
        opset = onnx.helper.make_opsetid("", 18)
        model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9)
        return bytes(model.SerializeToString())


def build_two_layers() -> bytes:
    """Return the model of two layers whose inputs are multiples of 0.4 and of 0.3."""
    layers = TwoLayers()
    layers.linear(layers.linear("image", "first", 0.4, "hidden"), "second", 0.3, "logits")
    return layers.serialize()
