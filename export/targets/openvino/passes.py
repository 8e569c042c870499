"""Passes that make an OpenVINO model, as read from ONNX, smaller and faster on the CPU plugin.

Each pass changes an `openvino.Model` in place without changing the function that it computes.
OpenVINO's own simplification (in `convert_model`) is not used: it would store the attention biases
expanded, which makes the file of a TinyViT-5M 4.9 MB larger. docs/lab-notes/int8.md has the gain of
each pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tinyvit.export.targets.openvino.graph_helpers import is_constant, make_constant_factory
from tinyvit.export.targets.openvino.linear_to_convolution import (
    convert_linear_layers_to_convolutions,
)

if TYPE_CHECKING:
    import openvino

_NEUTRAL_ELEMENTS = {"Multiply": 1, "Divide": 1, "Add": 0, "Subtract": 0}
"""Operation -> the value of its second operand with which the result equals the first operand."""


def optimize_graph(model: openvino.Model) -> None:
    """Run every pass in the required order.

    Args:
        model: A model that `Core.read_model` read from ONNX; changed in place.
    """
    fold_constants(model)
    remove_identities(model)
    merge_quantize_dequantize(model)
    convert_linear_layers_to_convolutions(model)
    add_batch_axis_to_layer_norms(model)
    add_batch_axis_to_attention(model)
    model.validate_nodes_and_infer_types()


def fold_constants(model: openvino.Model) -> None:
    """Replace nodes that depend only on constants and known shapes by their results.

    Requires: nothing.
    Changes: foldable nodes become constants; the Gather that expands attention biases and the
        conversion of 8-bit weights stay.
    Why: engines would fold the rest each time they open the file. Expanded biases and weights would
        be larger, and engines recognize 8-bit weights by their conversion.

    Args:
        model: The model to change in place.
    """
    import openvino.opset13 as ops

    for node in model.get_ordered_ops():
        for port, value in zip(node.outputs(), _evaluate(node)):
            port.replace(ops.constant(value).output(0))


def _evaluate(node: openvino.Node) -> list[npt.NDArray[Any]]:
    """Compute the outputs of a node; [] if they depend on the input or should not be folded."""
    import openvino

    inputs = node.input_values()
    if node.get_type_name() == "ShapeOf" and inputs[0].get_partial_shape().is_static:
        return [np.array(inputs[0].get_shape(), np.int64)]
    if not inputs or not all(is_constant(value) for value in inputs) or _grows_if_folded(node):
        return []
    results = [
        openvino.Tensor(port.get_element_type(), port.get_shape()) for port in node.outputs()
    ]
    arguments = [openvino.Tensor(value.get_node().data) for value in inputs]
    if not node.evaluate(results, arguments):  # OpenVINO cannot evaluate this kind of node.
        return []
    return [tensor.data for tensor in results]


def _grows_if_folded(node: openvino.Node) -> bool:
    """Return whether the result of a node is larger than its inputs.

    This is so for a Gather, which expands a table of attention biases, and for a Convert of 8-bit
    weights to a wider type.
    """
    if node.get_type_name() == "Convert":
        size_before = node.get_input_element_type(0).get_size()
        return bool(size_before < node.get_output_element_type(0).get_size())
    return bool(node.get_type_name() == "Gather")


def remove_identities(model: openvino.Model) -> None:
    """Remove additions and subtractions of 0, and multiplications and divisions by 1.

    Requires: constants are folded.
    Changes: each such node is bypassed.
    Why: they come from zero points of 0 and from the scales of 1 that ONNX requires in a
        LayerNormalization, and OpenVINO does not fuse a FakeQuantize that follows such a node.

    Args:
        model: The model to change in place.
    """
    for node in model.get_ordered_ops():
        neutral = _NEUTRAL_ELEMENTS.get(node.get_type_name())
        if neutral is None:
            continue
        first, second = node.input_values()
        constant = second.get_node()
        while constant.get_type_name() in ("Convert", "Reshape"):
            constant = constant.input_value(0).get_node()
        keeps_shape = first.get_partial_shape() == node.output(0).get_partial_shape()
        has_constant = constant.get_type_name() == "Constant"
        if has_constant and keeps_shape and (constant.data == neutral).all():
            node.output(0).replace(first)


def merge_quantize_dequantize(model: openvino.Model) -> None:
    """Merge each pair of quantization and dequantization into one FakeQuantize.

    Requires: identities are removed.
    Changes: a FakeQuantize to integers, its conversions and the products with the scale become one
        FakeQuantize from floats to floats.
    Why: this is the form that OpenVINO's own tools write and its plugins fuse.

    Args:
        model: The model to change in place.
    """
    import openvino.opset13 as ops

    for quantize in model.get_ordered_ops():
        if quantize.get_type_name() != "FakeQuantize":
            continue
        products = _find_dequantizing_products(quantize)
        if not products:
            continue
        value, lowest, highest, *_ = quantize.input_values()
        levels = quantize.get_attributes()["levels"]
        input_range = output_range = (lowest, highest)
        merged = ops.fake_quantize(value, *input_range, *output_range, levels)
        merged.set_friendly_name(products[0].get_friendly_name())
        for product in products:
            product.output(0).replace(merged.output(0))


def _find_dequantizing_products(node: openvino.Node) -> list[openvino.Node]:
    """Find the Multiply nodes that read `node` directly or through Convert nodes.

    The result is [] if any other kind of node reads `node`.
    """
    products: list[openvino.Node] = []
    for port in node.output(0).get_target_inputs():
        reader = port.get_node()
        kind = reader.get_type_name()
        branch = _find_dequantizing_products(reader) if kind == "Convert" else [reader]
        if not branch or kind not in ("Convert", "Multiply"):
            return []
        products += branch
    return products


def add_batch_axis_to_layer_norms(model: openvino.Model) -> None:
    """Compute LayerNorm and the FakeQuantize after it over (1, tokens, channels).

    Requires: quantization and dequantization are merged.
    Changes: every normalization (MVN) of (tokens, channels) that only a FakeQuantize reads gets a
        reshape before it, and one after the FakeQuantize.
    Why: with two axes, the CPU plugin does not fuse LayerNorm and FakeQuantize; the reshapes cost
        nothing.

    Args:
        model: The model to change in place.
    """
    import openvino.opset13 as ops

    make_constant = make_constant_factory()
    for norm in model.get_ordered_ops():
        if norm.get_type_name() != "MVN" or len(norm.get_input_partial_shape(0)) != 2:
            continue
        readers = [port.get_node() for port in norm.output(0).get_target_inputs()]
        if [reader.get_type_name() for reader in readers] != ["FakeQuantize"]:
            continue
        quantize, tokens = readers[0], norm.input_value(0)
        channels = tokens.get_partial_shape()[1].get_length()
        quantize_readers = quantize.output(0).get_target_inputs()
        expanded = ops.reshape(tokens, make_constant(1, -1, channels), special_zero=False)
        norm.input(0).replace_source_output(expanded.output(0))
        # The second input of MVN is the axes that are normalized: still the last one.
        norm.input(1).replace_source_output(make_constant(-1).output(0))
        norm.validate_and_infer_types()
        quantize.validate_and_infer_types()
        flat = ops.reshape(quantize.output(0), make_constant(-1, channels), special_zero=False)
        for port in quantize_readers:
            port.replace_source_output(flat.output(0))


def add_batch_axis_to_attention(model: openvino.Model) -> None:
    """Compute attention over a single window with shapes (1, heads, tokens, channels per head).

    Requires: every transpose of three axes is one of attention, (heads, tokens, channels per head),
        as in graphs with a fixed batch.
    Changes: the axis orders of the transposes, and the reshapes before them.
    Why: with three axes, the CPU plugin does not fuse the transposes. Softmax is over the last axis
        in both forms.

    Args:
        model: The model to change in place.
    """
    import openvino.opset13 as ops

    make_constant = make_constant_factory()
    for transpose in model.get_ordered_ops():
        is_transpose = transpose.get_type_name() == "Transpose"
        if not is_transpose or len(transpose.get_input_partial_shape(0)) != 3:
            continue
        source, order = (value.get_node() for value in transpose.input_values())
        # Queries, keys and values come from a Reshape, which must add the batch axis. A product of
        # attention has this axis already, because its operands have it.
        if source.get_type_name() == "Reshape":
            shape = make_constant(1, *source.get_output_shape(0))
            expanded = ops.reshape(source.input_value(0), shape, special_zero=False)
            transpose.input(0).replace_source_output(expanded.output(0))
        shifted = make_constant(0, *(axis + 1 for axis in order.data.tolist()))
        transpose.input(1).replace_source_output(shifted.output(0))
