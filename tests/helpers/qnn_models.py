"""Small quantized ONNX models for tests of the Hexagon NPU."""

from __future__ import annotations

from typing import Any

import numpy as np

SCALE = 4 / 32767
"""Scale of the activations, 16-bit integers with zero point 32768."""


def make_gelu_model(has_norm_for_cpu: bool = False) -> bytes:
    """Return a model that computes GELU in 16-bit integers.

    Args:
        has_norm_for_cpu: Whether a LayerNorm follows, in a form that Qualcomm's compiler leaves to
            the CPU: the zero point of its scale is 0.
    """
    from onnx import TensorProto, helper

    def constant(name: str, value: Any, element_type: int) -> Any:
        array = np.asarray(value)
        return helper.make_tensor(name, element_type, array.shape, array.flatten().tolist())

    constants = [
        constant("scale", np.float32(SCALE), TensorProto.FLOAT),
        constant("zero", 32768, TensorProto.UINT16),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "scale", "zero"], ["x_dq"]),
        helper.make_node("Gelu", ["x_dq"], ["gelu"]),
        helper.make_node("QuantizeLinear", ["gelu", "scale", "zero"], ["gelu_q"]),
        helper.make_node("DequantizeLinear", ["gelu_q", "scale", "zero"], ["y"]),
    ]
    if has_norm_for_cpu:
        nodes[-1].output[0] = "gelu_dq"
        constants += [
            constant("weight", np.full(64, 65535), TensorProto.UINT16),
            constant("weight_scale", np.float32(1 / 65535), TensorProto.FLOAT),
            constant("weight_zero", 0, TensorProto.UINT16),
        ]
        weight = ["weight", "weight_scale", "weight_zero"]
        nodes += [
            helper.make_node("DequantizeLinear", weight, ["weight_dq"]),
            helper.make_node("LayerNormalization", ["gelu_dq", "weight_dq"], ["norm"], axis=-1),
            helper.make_node("QuantizeLinear", ["norm", "scale", "zero"], ["norm_q"]),
            helper.make_node("DequantizeLinear", ["norm_q", "scale", "zero"], ["y"]),
        ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], constants)
    opset = helper.make_opsetid("", 21)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    data: bytes = model.SerializeToString()
    return data
