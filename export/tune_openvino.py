"""Tuning OpenVINO's reading of the ONNX graph: smaller to store, and in the forms that its CPU kernels fuse.

OpenVINO's own simplification (the transformations behind convert_model) is not used: it would store the attention biases
expanded, 4.9 MB more at 5M. docs/int8.md has what each step brings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import openvino

_IDENTITIES = {"Multiply": 1, "Divide": 1, "Add": 0, "Subtract": 0}


def tune(model: openvino.Model) -> None:
    """Tune in place. The function computed stays the same."""
    _fold(model)
    _drop_identities(model)
    _join_roundings(model)
    _give_norms_an_axis(model)
    model.validate_nodes_and_infer_types()


def _fold(model: openvino.Model) -> None:
    """Compute once what depends on constants and known shapes only, but what is smaller as it is."""
    import openvino
    import openvino.opset13 as ops

    for node in model.get_ordered_ops():
        inputs = node.input_values()
        if node.get_type_name() == "ShapeOf" and inputs[0].get_partial_shape().is_static:
            values = [np.array(inputs[0].get_shape(), np.int64)]
        elif inputs and all(_is_constant(value) for value in inputs) and not _smaller_as_it_is(node):
            made = [openvino.Tensor(port.get_element_type(), port.get_shape()) for port in node.outputs()]
            if not node.evaluate(made, [openvino.Tensor(value.get_node().data) for value in inputs]):
                continue
            values = [tensor.data for tensor in made]
        else:
            continue
        for port, value in zip(node.outputs(), values):
            port.replace(ops.constant(value).output(0))


def _is_constant(value: openvino.Output) -> bool:
    return bool(value.get_node().get_type_name() == "Constant")


def _smaller_as_it_is(node: openvino.Node) -> bool:
    """The table of attention biases, and 8-bit weights, which engines also know by their conversion."""
    if node.get_type_name() == "Convert":
        return bool(node.get_input_element_type(0).get_size() < node.get_output_element_type(0).get_size())
    return bool(node.get_type_name() == "Gather")


def _drop_identities(model: openvino.Model) -> None:
    """Zero points of 0, and the scales of 1 that an ONNX LayerNormalization has to have: behind them, a rounding is not fused."""
    for node in model.get_ordered_ops():
        neutral = _IDENTITIES.get(node.get_type_name())
        if neutral is None:
            continue
        value, other = node.input_values()
        constant = other.get_node()
        while constant.get_type_name() in ("Convert", "Reshape"):
            constant = constant.input_value(0).get_node()
        same_shape = value.get_partial_shape() == node.output(0).get_partial_shape()
        if constant.get_type_name() == "Constant" and same_shape and (constant.data == neutral).all():
            node.output(0).replace(value)


def _join_roundings(model: openvino.Model) -> None:
    """A FakeQuantize to integers, its casts and the product with the scale: one FakeQuantize back to floats, as OpenVINO's own
    tools write it."""
    import openvino.opset13 as ops

    for rounding in model.get_ordered_ops():
        ends = _restored(rounding) if rounding.get_type_name() == "FakeQuantize" else []
        if not ends:
            continue
        value, lowest, highest, *_ = rounding.input_values()
        joined = ops.fake_quantize(value, lowest, highest, lowest, highest, rounding.get_attributes()["levels"])
        joined.set_friendly_name(ends[0].get_friendly_name())
        for end in ends:
            end.output(0).replace(joined.output(0))


def _restored(node: openvino.Node) -> list[openvino.Node]:
    """The products that end all casts of `node`; none where it is also used in another way."""
    ends: list[openvino.Node] = []
    for port in node.output(0).get_target_inputs():
        reader = port.get_node()
        found = [reader] if reader.get_type_name() == "Multiply" else _restored(reader) if reader.get_type_name() == "Convert" else []
        if not found:
            return []
        ends += found
    return ends


def _give_norms_an_axis(model: openvino.Model) -> None:
    """LayerNorm and the rounding after it over (1, tokens, channels): over (tokens, channels) the CPU plugin does not fuse them.

    The reshapes cost nothing there.
    """
    import openvino.opset13 as ops

    for norm in model.get_ordered_ops():
        if norm.get_type_name() != "MVN" or len(norm.get_input_partial_shape(0)) != 2:
            continue
        readers = [port.get_node() for port in norm.output(0).get_target_inputs()]
        if [reader.get_type_name() for reader in readers] != ["FakeQuantize"]:
            continue
        rounding, tokens = readers[0], norm.input_value(0)
        channels = tokens.get_partial_shape()[1].get_length()
        after = rounding.output(0).get_target_inputs()
        norm.input(0).replace_source_output(ops.reshape(tokens, np.array([1, -1, channels]), special_zero=False).output(0))
        norm.input(1).replace_source_output(ops.constant(np.array([-1])).output(0))
        norm.validate_and_infer_types()
        rounding.validate_and_infer_types()
        narrow = ops.reshape(rounding.output(0), np.array([-1, channels]), special_zero=False)
        for port in after:
            port.replace_source_output(narrow.output(0))
