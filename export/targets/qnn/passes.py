"""Passes that put an ONNX graph into the form that Qualcomm's compiler runs on the NPU as a whole.

The compiler takes an operator to the NPU only if its inputs and outputs are quantized alike, and
the rest of the graph stays on the CPU. docs/lab-notes/npus.md has the experiments. Each pass
changes the model in place, and none changes what a quantized network computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tinyvit.export.passes.onnx_constants import add_constant

if TYPE_CHECKING:
    import onnx_ir as ir

SIXTEEN_BIT_OPSET = 21
"""First ONNX opset with quantize operators for 16 bits."""
_SIXTEEN_BIT_IR_VERSION = 10
"""Version of the file format that belongs to this opset."""

_MOVING_OPERATORS = ("Reshape", "Transpose", "Slice", "Pad", "Squeeze", "Unsqueeze")
"""Operators that move values without changing them."""
_CONSTANT_OPERATORS = ("Gather", "Reshape")
"""Operators that expand the attention biases, which are constants."""

_NORM_CONSTANTS = {"uint16": (2**15, 2**14), "uint8": (2**7, 2**6)}
"""Integer type of the activations -> the zero point of the scale of a LayerNorm, and the integer
that its largest value is mapped to. With another type or another zero point, the compiler leaves
the LayerNorm to the CPU. The scales of folded networks are powers of two, which have no rounding
error if the largest is mapped to a power of two."""
_BIAS_LIMIT = 2**24
"""Integer that the largest shift of a LayerNorm is mapped to."""


def rewrite_quantized_network(model: ir.Model) -> None:
    """Run the passes for a network in which every tensor is quantized.

    Args:
        model: The exported network; changed in place.
    """
    import onnx_ir.passes.common as passes

    raise_opset(model)
    fold_quantized_constants(model)
    quantize_norm_weights(model)
    merge_repeated_quantizers(model)
    quantize_moved_tensors(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.NameFixPass()(model)
    passes.TopologicalSortPass()(model)


def raise_opset(model: ir.Model) -> None:
    """Use the first opset with 16-bit quantize operators.

    Requires: the operators of the network are the same in both opsets, which holds from opset 20.
    Changes: the opset and the version of the file format, if they are older.

    Args:
        model: The model to change in place.
    """
    opset = model.graph.opset_imports.get("", 0)
    model.graph.opset_imports[""] = max(opset, SIXTEEN_BIT_OPSET)
    model.ir_version = max(model.ir_version, _SIXTEEN_BIT_IR_VERSION)


def fold_quantized_constants(model: ir.Model) -> None:
    """Store the expanded attention biases as integers.

    Requires: the only constants that are quantized are those of attention biases.
    Changes: a QuantizeLinear of constants becomes an initializer with its result.
    Why: the NPU would expand and quantize the biases for every image.

    Args:
        model: The model to change in place.
    """
    for node in [node for node in model.graph if node.op_type == "QuantizeLinear"]:
        values = _evaluate(node.inputs[0])
        if values is not None:
            scale, zero_point = (_read_constant(value) for value in node.inputs[1:3])
            integers = quantize(values, float(scale), zero_point)
            name = f"{node.outputs[0].name}_constant"
            node.outputs[0].replace_all_uses_with(add_constant(model, name, integers))


def quantize_norm_weights(model: ir.Model) -> None:
    """Quantize the scale and the shift of every LayerNorm.

    Requires: the inputs and outputs of LayerNorms are quantized.
    Changes: the scale gets the integer type of the input, and the shift int32, each with a
        DequantizeLinear.
    Why: with a float scale, the results of the NPU differ 15 times as much.

    Args:
        model: The model to change in place.
    """
    for node in [node for node in model.graph if node.op_type == "LayerNormalization"]:
        source = node.inputs[0].producer() if node.inputs[0] is not None else None
        integer_type = str(_read_integer_type(source))
        for position, value in list(enumerate(node.inputs))[1:]:
            values = _evaluate(value)
            if values is None:
                continue
            zero_point, limit = np.array(0, np.int32), _BIAS_LIMIT
            if position == 1:
                number, limit = _NORM_CONSTANTS[integer_type]
                zero_point = np.array(number, integer_type)
            scale = max(float(np.abs(values).max()), 1e-12) / limit
            name = f"{node.name}_{position}"
            constants = (quantize(values, scale, zero_point), np.float32(scale), zero_point)
            inputs = [
                add_constant(model, f"{name}_{suffix}", np.asarray(array))
                for suffix, array in zip(("integers", "scale", "zero_point"), constants)
            ]
            dequantize = _make_node("DequantizeLinear", inputs, f"{name}_dequantize", value)
            model.graph.insert_before(node, dequantize)
            node.replace_input_with(position, dequantize.outputs[0])


def merge_repeated_quantizers(model: ir.Model) -> None:
    """Quantize a tensor once.

    Requires: nothing.
    Changes: a QuantizeLinear of a tensor that was just dequantized with the same scale and zero
        point is removed, together with the DequantizeLinear after it.
    Why: the output of a layer and the input of the next one are the same tensor.

    Args:
        model: The model to change in place.
    """
    for node in [node for node in model.graph if node.op_type == "QuantizeLinear"]:
        source = node.inputs[0].producer() if node.inputs[0] is not None else None
        if source is None or source.op_type != "DequantizeLinear":
            continue
        if _parameters(node) != _parameters(source):
            continue
        for user in [use.node for use in node.outputs[0].uses()]:
            if user.op_type == "DequantizeLinear" and not user.outputs[0].is_graph_output():
                user.outputs[0].replace_all_uses_with(source.outputs[0])


def quantize_moved_tensors(model: ir.Model) -> None:
    """Quantize the output of an operator that only moves values, as its input is quantized.

    Requires: every tensor that an operator computes is quantized.
    Changes: a Reshape, Transpose, Slice or Pad of a dequantized tensor gets a QuantizeLinear and a
        DequantizeLinear after it, with the same scale and zero point.
    Why: otherwise the compiler regards it as an operator of floats.

    Args:
        model: The model to change in place.
    """
    import onnx_ir.passes.common as passes

    passes.TopologicalSortPass()(model)
    for node in [node for node in model.graph if node.op_type in _MOVING_OPERATORS]:
        moved, output = node.inputs[0], node.outputs[0]
        source = moved.producer() if moved is not None else None
        users = [use.node for use in output.uses()]
        if source is None or source.op_type != "DequantizeLinear":
            continue
        if any(user.op_type == "QuantizeLinear" for user in users):
            continue
        _quantize_after(model, output, list(source.inputs[1:3]), node)


def count_quantize_operators(model: ir.Model) -> int:
    """Return the number of quantize operators, 0 for a float network."""
    return sum(node.op_type == "QuantizeLinear" for node in model.graph)


def store_weights_in_float16(model: ir.Model) -> None:
    """Store the weights in 16 bits; each is converted to float32 where it is read.

    Requires: the network is not quantized.
    Changes: float32 initializers of more than one value become float16, with a Cast.
    Why: the NPU computes a float network in float16, and the file has half the size.

    Args:
        model: The model to change in place.
    """
    import onnx_ir as ir

    for value in list(model.graph.initializers.values()):
        if value.dtype != ir.DataType.FLOAT or value.const_value is None:
            continue
        array = value.const_value.numpy()
        if array.size == 1:
            continue
        stored = add_constant(model, f"{value.name}_float16", array.astype(np.float16))
        cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT}, name=f"{value.name}_cast")
        cast.outputs[0].type = value.type
        cast.outputs[0].shape = value.shape
        value.replace_all_uses_with(cast.outputs[0])
        model.graph.insert_before(model.graph[0], cast)
        del model.graph.initializers[value.name or ""]


def quantize(
    values: npt.NDArray[Any], scale: float, zero_point: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Convert real numbers to integers as QuantizeLinear does.

    Args:
        values: The numbers.
        scale: The scale, above 0.
        zero_point: The integer that represents 0.0; its dtype is that of the result.

    Returns:
        Integers of the same shape.
    """
    limits = np.iinfo(zero_point.dtype)
    integers = np.rint(values.astype(np.float64) / scale) + int(zero_point)
    return np.asarray(integers.clip(limits.min, limits.max).astype(zero_point.dtype))


def _quantize_after(
    model: ir.Model, output: ir.Value, parameters: list[Any], node: ir.Node
) -> None:
    """Insert a quantize and a dequantize operator behind a tensor."""
    import onnx_ir as ir

    quantize_node = ir.node("QuantizeLinear", [output, *parameters], name=f"{node.name}_quantize")
    integers = quantize_node.outputs[0]
    integers.name, integers.shape = f"{output.name}_quantized", output.shape
    integers.type = ir.TensorType(parameters[1].dtype)
    dequantize = _make_node(
        "DequantizeLinear", [integers, *parameters], f"{node.name}_dequantize", output
    )
    uses = [(use.node, use.idx) for use in output.uses()]
    is_output = output.is_graph_output()
    model.graph.insert_after(node, [quantize_node, dequantize])
    for user, position in uses:
        if user is not quantize_node:
            user.replace_input_with(position, dequantize.outputs[0])
    if is_output:
        _rename_output(model, output, dequantize.outputs[0])


def _rename_output(model: ir.Model, old: ir.Value, new: ir.Value) -> None:
    """Make another value the output of the graph, under the same name."""
    index = next(i for i, value in enumerate(model.graph.outputs) if value is old)
    name, old.name = old.name, f"{old.name}_moved"
    new.name = name
    model.graph.outputs[index] = new


def _make_node(op_type: str, inputs: list[Any], name: str, like: ir.Value | None) -> ir.Node:
    """Make a node with one float32 output that has the shape of another value."""
    import onnx_ir as ir

    node = ir.node(op_type, inputs, name=name)
    node.outputs[0].name = f"{name}_output"
    node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    node.outputs[0].shape = None if like is None else like.shape
    return node


def _read_constant(value: ir.Value | None) -> npt.NDArray[Any]:
    """Return the array of an initializer."""
    assert value is not None
    assert value.const_value is not None
    return np.asarray(value.const_value.numpy())


def _parameters(node: ir.Node) -> tuple[Any, ...]:
    """Return the scale, the zero point and the integer type of a (de)quantize operator."""
    scale, zero_point = (_read_constant(value) for value in node.inputs[1:3])
    return scale.tobytes(), zero_point.tobytes(), zero_point.dtype


def _read_integer_type(node: ir.Node | None) -> np.dtype[Any]:
    """Return the integer type of the tensor that a node passes on, from its DequantizeLinear."""
    while node is not None and node.op_type != "DequantizeLinear":
        value = node.inputs[0]
        node = value.producer() if value is not None else None
    assert node is not None
    return _read_constant(node.inputs[2]).dtype


def _evaluate(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """Return the array of a constant, expanded by Gather and Reshape; None for other values."""
    if value is None:
        return None
    if value.const_value is not None:
        return np.asarray(value.const_value.numpy())
    node = value.producer()
    if node is None or node.op_type not in _CONSTANT_OPERATORS:
        return None
    data, argument = (_evaluate(operand) for operand in node.inputs[:2])
    if data is None or argument is None:
        return None
    if node.op_type == "Gather":
        return np.take(data, argument, node.attributes.get_int("axis", 0))
    return data.reshape(argument)
