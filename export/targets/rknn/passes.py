"""Passes that prepare an ONNX graph for rknn-toolkit2.

The toolkit does not read quantize operators. It reads a float network and a list with the range of
each tensor, so the ranges of the quantize operators are collected for that list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tinyvit.export.passes.onnx_constants import add_constant
from tinyvit.runtimes.rockchip.ranges import Range

if TYPE_CHECKING:
    import onnx_ir as ir

_ATTENTION_SUFFIXES = ("_2sdpa_q_matmul", "_2sdpa_q_add")
"""What the toolkit appends to the name of the second product of attention, to name the scores
before and after the attention biases are added, after it has fused both products."""


def remove_quantizers(model: ir.Model) -> dict[str, Range]:
    """Remove all quantize and dequantize operators.

    Requires: activations have 8 bits and one scale for a tensor.
    Changes: an activation that was quantized is passed on as it is, and integer weights become the
        float32 numbers that they represent.
    Why: the toolkit quantizes the network itself, with the ranges that are returned.

    Args:
        model: The model to change in place.

    Returns:
        Name of each tensor that was quantized -> the smallest and the largest value that its
        integers represent. A tensor that was quantized twice has the first range.
    """
    import onnx_ir.passes.common as passes

    passes.TopologicalSortPass()(model)
    ranges: dict[str, Range] = {}
    for node in list(model.graph):
        if node.op_type != "DequantizeLinear":
            continue
        source = _input(node, 0)
        quantizer = source.producer()
        if quantizer is not None and quantizer.op_type == "QuantizeLinear":
            replacement = _input(quantizer, 0)
            ranges.setdefault(replacement.name or "", _read_range(quantizer))
        else:
            replacement = _dequantize_constant(model, node)
        if node.outputs[0].is_graph_output():
            _replace_graph_output(model, node.outputs[0], replacement, ranges)
        node.outputs[0].replace_all_uses_with(replacement)
    passes.RemoveUnusedNodesPass()(model)
    _name_attention_scores(model, ranges)
    return ranges


def add_batch_axis_to_norms(model: ir.Model) -> None:
    """Give the input of each LayerNorm that has no batch axis one, of size 1.

    Requires: the normalized axis is the last one.
    Changes: a LayerNorm of tokens x channels is one of 1 x tokens x channels, between two Reshape.
        One whose result is an output of the graph, or of a single token, stays as it is.
    Why: without a batch axis, the compiler takes the tokens for one, and writes the commands of
        each token into the file: 7 of 23 MB at 224 x 224 pixels.

    Args:
        model: The model to change in place.
    """
    for node in list(model.graph):
        if node.op_type != "LayerNormalization":
            continue
        source, result = _input(node, 0), node.outputs[0]
        if source.shape is None or len(source.shape) != 2 or result.is_graph_output():
            continue
        shape = [int(size) for size in source.shape.numpy()]
        if shape[0] == 1:
            continue
        before = _make_reshape(model, source, [1, *shape], f"{result.name}_input")
        node.replace_input_with(0, before.outputs[0])
        after = _make_reshape(model, result, shape, f"{result.name}_tokens")
        result.replace_all_uses_with(after.outputs[0])
        # The uses that were replaced include that of the second Reshape.
        after.replace_input_with(0, result)
        result.name, after.outputs[0].name = f"{result.name}_batch", result.name
        result.shape = before.outputs[0].shape
        model.graph.insert_before(node, before)
        model.graph.insert_after(node, after)


def _make_reshape(model: ir.Model, source: ir.Value, shape: list[int], name: str) -> ir.Node:
    """Make a Reshape whose output and node have a name, with its shape as an initializer."""
    import onnx_ir as ir

    constant = add_constant(model, f"{name}_shape", np.array(shape, np.int64))
    output = ir.Value(name=name, shape=ir.Shape(shape), type=source.type)
    return ir.Node("", "Reshape", [source, constant], outputs=[output], name=f"node_{name}")


def _name_attention_scores(model: ir.Model, ranges: dict[str, Range]) -> None:
    """Add the ranges of the scores of attention, under the names that the toolkit gives them."""
    for node in model.graph:
        if node.op_type != "MatMul":
            continue
        softmax = _input(node, 0).producer()
        if softmax is None or softmax.op_type != "Softmax":
            continue
        scores, probabilities = _input(softmax, 0).name or "", softmax.outputs[0].name or ""
        for suffix in _ATTENTION_SUFFIXES:
            if scores in ranges:
                ranges[f"{node.name}{suffix}"] = ranges[scores]
        if probabilities in ranges:
            ranges[f"{node.name}_2sdpa_q_softmax"] = ranges[probabilities]


def _replace_graph_output(
    model: ir.Model, old: ir.Value, new: ir.Value, ranges: dict[str, Range]
) -> None:
    """Make another value an output of the graph, under the name of the old one."""
    index = next(i for i, value in enumerate(model.graph.outputs) if value is old)
    name, previous_name = old.name or "", new.name or ""
    old.name = f"{name}_quantized"
    new.name = name
    if previous_name in ranges:
        ranges[name] = ranges.pop(previous_name)
    model.graph.outputs[index] = new


def _read_range(quantizer: ir.Node) -> Range:
    """Return the smallest and the largest value that a quantize operator represents."""
    scale, zero_point = _read(_input(quantizer, 1)), _read(_input(quantizer, 2))
    limits, zero = np.iinfo(zero_point.dtype), int(zero_point)
    return float(scale) * (limits.min - zero), float(scale) * (limits.max - zero)


def _dequantize_constant(model: ir.Model, node: ir.Node) -> ir.Value:
    """Return an initializer with the numbers that a dequantize operator makes from integers."""
    integers, scale = _read(_input(node, 0)), _read(_input(node, 1))
    zero_point = _read(_input(node, 2)) if len(node.inputs) > 2 else np.zeros((), integers.dtype)
    if scale.ndim:
        axis = node.attributes.get_int("axis", 1)
        shape = [1] * integers.ndim
        shape[axis] = -1
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    floats = (integers.astype(np.float64) - zero_point.astype(np.float64)) * scale
    return add_constant(model, f"{node.outputs[0].name}_float", floats.astype(np.float32))


def _input(node: ir.Node, index: int) -> ir.Value:
    """Return an input that the node has."""
    value = node.inputs[index]
    assert value is not None
    return value


def _read(value: ir.Value) -> npt.NDArray[Any]:
    """Return the array of a constant."""
    assert value.const_value is not None
    return np.asarray(value.const_value.numpy())
