"""Passes that prepare the ONNX graph for TensorRT, in a form that other engines can read too.

TensorRT's networks are strongly typed: values that are float32 in the file are computed in float32.
The passes therefore change the types of floating-point values. The quantization scales come from
the same recipe as those of every other target. Each pass changes the model in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import RequestError
from tinyvit.export.passes.onnx_constants import add_constant

if TYPE_CHECKING:
    import onnx_ir as ir

FLOAT16_QUANTIZE_OPSET = 19
"""The first ONNX opset whose QuantizeLinear takes float16."""

_SMALLEST_FLOAT16 = np.float32(2.0**-24)
"""The smallest positive float16."""


def rewrite_for_tensorrt(model: ir.Model, use_float16: bool) -> None:
    """Run the passes that come before preprocessing is added.

    Args:
        model: The exported network; changed in place.
        use_float16: Whether floating-point values become float16.

    Raises:
        RequestError: The opset cannot quantize float16.
    """
    is_quantized = any(node.op_type == "QuantizeLinear" for node in model.graph)
    opset = model.graph.opset_imports.get("", 0)
    if use_float16 and is_quantized and opset < FLOAT16_QUANTIZE_OPSET:
        raise RequestError(
            f"ONNX opset {opset} cannot quantize float16, which the target tensorrt needs",
            f"use --opset {FLOAT16_QUANTIZE_OPSET} or later",
        )
    dequantize_depthwise_weights(model)
    if use_float16:
        convert_to_float16(model)


def dequantize_depthwise_weights(model: ir.Model) -> None:
    """Store the weights of depthwise convolutions as floats.

    Requires: nothing.
    Changes: quantized weights of grouped convolutions become the float32 values that they
        represent; the input stays quantized.
    Why: TensorRT-RTX 1.7 pads every channel of integer weights to four, which adds 2.4 MB of zeros
        for each of the two such layers of the demo model.

    Args:
        model: The model to change in place.
    """
    for node in list(model.graph):
        if node.op_type != "Conv" or node.attributes["group"].as_int() == 1:
            continue
        dequantize = node.inputs[1].producer() if node.inputs[1] is not None else None
        if dequantize is not None and dequantize.op_type == "DequantizeLinear":
            integers = _read_constant(dequantize, position=0)
            scales = _read_constant(dequantize, position=1)
            weight = integers * scales.reshape(-1, 1, 1, 1)
            _set_constant(model, node, position=1, array=weight.astype(np.float32))
            model.graph.remove(dequantize, safe=True)


def convert_to_float16(model: ir.Model) -> None:
    """Compute every float in float16; the input and the output stay float32.

    Requires: opset 19 or later if the model is quantized.
    Changes: values and constants become float16, with a Cast after the input and before the output;
        quantization scales become at least the smallest positive float16.
    Why: the engine has half the size, and its products run on tensor cores. A scale below the
        smallest positive float16 would be rounded to zero, which TensorRT refuses.

    Args:
        model: The model to change in place.
    """
    import onnx_ir as ir

    scale_ids = {
        id(node.inputs[1])  # the scale
        for node in model.graph
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    }
    for value in model.graph.initializers.values():
        if value.dtype == ir.DataType.FLOAT:
            assert value.const_value is not None
            array = value.const_value.numpy()
            if id(value) in scale_ids:
                array = np.maximum(array, _SMALLEST_FLOAT16)
            value.const_value = ir.Tensor(array.astype(np.float16), name=value.name)
            value.type = ir.TensorType(ir.DataType.FLOAT16)
    for node in model.graph:
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT:
                value.type = ir.TensorType(ir.DataType.FLOAT16)
    _cast_ends(model)


def _cast_ends(model: ir.Model) -> None:
    """Add a Cast of the float32 input to float16, and Casts of the float16 outputs to float32."""
    import onnx_ir as ir

    graph = model.graph
    image = graph.inputs[0]
    float16_image = _make_value("half/in", ir.DataType.FLOAT16, image.shape)
    cast_image = ir.node(
        "Cast", [image], {"to": ir.DataType.FLOAT16}, name="half/in", outputs=[float16_image]
    )
    image.replace_all_uses_with(float16_image)
    # The line above has also replaced the input of the Cast itself.
    cast_image.replace_input_with(0, image)
    graph.insert_before(next(iter(graph)), cast_image)
    for i, output in enumerate(list(graph.outputs)):
        float_output = _make_value(output.name, ir.DataType.FLOAT, output.shape)
        output.name = f"half/out{i}" if i else "half/out"
        graph.append(
            ir.node(
                "Cast",
                [output],
                {"to": ir.DataType.FLOAT},
                name=output.name,
                outputs=[float_output],
            )
        )
        graph.outputs[i] = float_output


def cast_pixels_first(model: ir.Model) -> None:
    """Convert uint8 pixels to float32 before they are transposed.

    Requires: preprocessing was added; a float32 input stays as it is.
    Changes: the order of the input's Transpose and Cast is swapped.
    Why: TensorRT supports no operation on uint8 except a Cast.

    Args:
        model: The model to change in place.
    """
    import onnx_ir as ir

    pixels = model.graph.inputs[0]
    if pixels.dtype != ir.DataType.UINT8:
        return
    (transpose,) = [use.node for use in pixels.uses()]
    (cast,) = [use.node for use in transpose.outputs[0].uses()]
    if (transpose.op_type, cast.op_type) != ("Transpose", "Cast"):
        return
    floats = _make_value(f"{cast.name}/floats", ir.DataType.FLOAT, pixels.shape)
    first_cast = ir.node(
        "Cast", [pixels], {"to": ir.DataType.FLOAT}, name=f"{cast.name}/first", outputs=[floats]
    )
    model.graph.insert_before(transpose, first_cast)
    transpose.replace_input_with(0, floats)
    transpose.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    cast.outputs[0].replace_all_uses_with(transpose.outputs[0])
    model.graph.remove(cast, safe=True)


def _make_value(name: str | None, dtype: ir.DataType, shape: ir.Shape | None) -> ir.Value:
    """Make a value, which is the output of a node."""
    import onnx_ir as ir

    return ir.Value(name=name, type=ir.TensorType(dtype), shape=shape)


def _read_constant(node: ir.Node, position: int) -> npt.NDArray[Any]:
    """Return the constant that a node reads at a position among its inputs."""
    value = node.inputs[position]
    assert value is not None
    assert value.const_value is not None
    return value.const_value.numpy()


def _set_constant(
    model: ir.Model, node: ir.Node, position: int, array: npt.NDArray[np.float32]
) -> None:
    """Replace the constant that a node reads at a position among its inputs.

    A new constant is added, because other nodes may read the old one too.
    """
    value = add_constant(model, f"{node.name}/{position}", array)
    node.replace_input_with(position, value)
