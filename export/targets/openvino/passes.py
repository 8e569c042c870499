"""Tuning OpenVINO's reading of the ONNX graph: smaller to store, and in the forms that its CPU kernels fuse.

OpenVINO's own simplification (the transformations behind convert_model) is not used: it would store the attention biases
expanded, 4.9 MB more at 5M. docs/int8.md has what each step brings.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import openvino

_IDENTITIES = {"Multiply": 1, "Divide": 1, "Add": 0, "Subtract": 0}
_LIMITS = {"Maximum": "maximum", "Minimum": "minimum"}


def tune(model: openvino.Model) -> None:
    """Tune in place. The function computed stays the same."""
    _fold(model)
    _drop_identities(model)
    _join_roundings(model)
    _linear_as_convolutions(model)
    _give_norms_an_axis(model)
    _give_heads_an_axis(model)
    model.validate_nodes_and_infer_types()


def _fold(model: openvino.Model) -> None:
    """Compute once what depends on constants and known shapes only, but what is smaller as it is."""
    import openvino
    import openvino.opset13 as ops

    for node in model.get_ordered_ops():
        inputs = node.input_values()
        if node.get_type_name() == "ShapeOf" and inputs[0].get_partial_shape().is_static:
            values = [np.array(inputs[0].get_shape(), np.int64)]
        elif (
            inputs and all(_is_constant(value) for value in inputs) and not _smaller_as_it_is(node)
        ):
            made = [
                openvino.Tensor(port.get_element_type(), port.get_shape())
                for port in node.outputs()
            ]
            if not node.evaluate(
                made, [openvino.Tensor(value.get_node().data) for value in inputs]
            ):
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
        return bool(
            node.get_input_element_type(0).get_size() < node.get_output_element_type(0).get_size()
        )
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
        if (
            constant.get_type_name() == "Constant"
            and same_shape
            and (constant.data == neutral).all()
        ):
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
        joined = ops.fake_quantize(
            value, lowest, highest, lowest, highest, rounding.get_attributes()["levels"]
        )
        joined.set_friendly_name(ends[0].get_friendly_name())
        for end in ends:
            end.output(0).replace(joined.output(0))


def _restored(node: openvino.Node) -> list[openvino.Node]:
    """The products that end all casts of `node`; none where it is also used in another way."""
    ends: list[openvino.Node] = []
    for port in node.output(0).get_target_inputs():
        reader = port.get_node()
        found = _restored(reader) if reader.get_type_name() == "Convert" else [reader]
        if not found or reader.get_type_name() not in ("Convert", "Multiply"):
            return []
        ends += found
    return ends


def _linear_as_convolutions(model: openvino.Model) -> None:
    """Products of integers as convolutions of 1 x 1 over (1, channels, tokens, 1), with what follows them up to the next rounding.

    Without VNNI, OpenVINO's integer convolutions are 2.4 times as fast as its integer products; with it both are the same.
    The transposes cost nothing: convolutions keep channels last.
    """
    import openvino.opset13 as ops

    integers_of = _shared_constants()
    for product in model.get_ordered_ops():
        if not _is_integer_product(product):
            continue
        tokens, weight = product.input_values()
        cast, scale = (value.get_node() for value in weight.get_node().input_values())
        integers = cast.input_value(0).get_node().data
        rows, channels = integers.shape
        image = ops.transpose(
            ops.reshape(tokens, integers_of(1, -1, 1, channels), special_zero=False),
            integers_of(0, 3, 1, 2),
        )
        kernel = ops.convert(ops.constant(integers.reshape(rows, channels, 1, 1)), "f32")
        kernel = ops.multiply(kernel, ops.constant(scale.data.reshape(rows, 1, 1, 1)))
        made = ops.convolution(image, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
        made.set_friendly_name(product.get_friendly_name())
        made, last = _followed(made, product, rows)
        readers = last.output(0).get_target_inputs()
        again = ops.reshape(
            ops.transpose(made, integers_of(0, 2, 3, 1)), integers_of(-1, rows), special_zero=False
        )
        for reader in readers:
            reader.replace_source_output(again.output(0))


def _shared_constants() -> Callable[..., openvino.Node]:
    """Shapes and orders of axes as constants, one for all that are equal: each takes 200 bytes of the file."""
    import openvino.opset13 as ops

    return cache(lambda *values: ops.constant(np.array(values)))


def _is_integer_product(node: openvino.Node) -> bool:
    """Whether it is a linear layer, (tokens, channels) by (rows, channels), whose input is rounded and whose weights are 8-bit."""
    if node.get_type_name() != "MatMul" or not node.get_attributes()["transpose_b"]:
        return False
    source, weight = (value.get_node() for value in node.input_values())
    while source.get_type_name() in ("Reshape", "Transpose"):
        source = source.input_value(0).get_node()
    return bool(
        source.get_type_name() == "FakeQuantize"
        and weight.get_type_name() == "Multiply"
        and weight.input_value(0).get_node().get_type_name() == "Convert"
        and _is_constant(weight.input_value(0).get_node().input_value(0))
    )


def _followed(
    made: openvino.Node, product: openvino.Node, rows: int
) -> tuple[openvino.Node, openvino.Node]:
    """`made`, which stands for `product`, with the bias, GELU, limits and rounding that follow it; and the last node that it stands
    for then."""
    import openvino.opset13 as ops

    last = product
    while len(readers := last.output(0).get_target_inputs()) == 1:
        reader = next(iter(readers)).get_node()
        others = [
            value.get_node()
            for value in reader.input_values()
            if value.get_node() is not last and _is_constant(value)
        ]
        if (
            reader.get_type_name() == "Add"
            and last is product
            and others
            and others[0].data.size == rows
        ):
            made = ops.add(made, ops.constant(others[0].data.reshape(1, rows, 1, 1)))
        elif reader.get_type_name() == "Gelu":
            made = ops.gelu(made, reader.get_attributes()["approximation_mode"])
        elif reader.get_type_name() in _LIMITS and others and others[0].data.size == 1:
            made = getattr(ops, _LIMITS[reader.get_type_name()])(made, others[0])
        elif reader.get_type_name() == "FakeQuantize":
            made = ops.fake_quantize(
                made, *reader.input_values()[1:], reader.get_attributes()["levels"]
            )
            made.set_friendly_name(reader.get_friendly_name())
            return made, reader
        else:
            break
        last = reader
    return made, last


def _give_norms_an_axis(model: openvino.Model) -> None:
    """LayerNorm and the rounding after it over (1, tokens, channels): over (tokens, channels) the CPU plugin does not fuse them.

    The reshapes cost nothing there.
    """
    import openvino.opset13 as ops

    integers_of = _shared_constants()
    for norm in model.get_ordered_ops():
        if norm.get_type_name() != "MVN" or len(norm.get_input_partial_shape(0)) != 2:
            continue
        readers = [port.get_node() for port in norm.output(0).get_target_inputs()]
        if [reader.get_type_name() for reader in readers] != ["FakeQuantize"]:
            continue
        rounding, tokens = readers[0], norm.input_value(0)
        channels = tokens.get_partial_shape()[1].get_length()
        after = rounding.output(0).get_target_inputs()
        norm.input(0).replace_source_output(
            ops.reshape(tokens, integers_of(1, -1, channels), special_zero=False).output(0)
        )
        norm.input(1).replace_source_output(integers_of(-1).output(0))
        norm.validate_and_infer_types()
        rounding.validate_and_infer_types()
        narrow = ops.reshape(rounding.output(0), integers_of(-1, channels), special_zero=False)
        for port in after:
            port.replace_source_output(narrow.output(0))


def _give_heads_an_axis(model: openvino.Model) -> None:
    """Attention over a single window as (1, heads, tokens, size): over (heads, tokens, size) the CPU plugin does not fuse the transposes.

    The graph has this form where the batch is fixed; softmax is over the last axis in both.
    """
    import openvino.opset13 as ops

    integers_of = _shared_constants()
    for transpose in model.get_ordered_ops():
        if (
            transpose.get_type_name() != "Transpose"
            or len(transpose.get_input_partial_shape(0)) != 3
        ):
            continue
        source, order = (value.get_node() for value in transpose.input_values())
        if (
            source.get_type_name() == "Reshape"
        ):  # queries, keys or values; else it is what the products gave
            shape = integers_of(1, *source.get_output_shape(0))
            transpose.input(0).replace_source_output(
                ops.reshape(source.input_value(0), shape, special_zero=False).output(0)
            )
        transpose.input(1).replace_source_output(
            integers_of(0, *(axis + 1 for axis in order.data.tolist())).output(0)
        )
