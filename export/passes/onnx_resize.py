"""Resizing, cropping and padding of one uint8 image, as operators of ONNX.

The image is (1, height, width, 3) of any size. The results are those of
`tinyvit.preprocess.Preprocess`, except for the rounding that `onnx_preprocess` describes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tinyvit.errors import RequestError
from tinyvit.export.passes.onnx_node_builder import NodeBuilder
from tinyvit.images.resampling import TALL_ASPECT_RATIO
from tinyvit.preprocess import Preprocess

if TYPE_CHECKING:
    import onnx_ir as ir

    from tinyvit.export.passes.onnx_node_builder import NodeInput

RESIZE_OPSET = 18
"""The first ONNX opset whose Resize can antialias."""

RESIZE_MODES = {"bicubic": "cubic", "bilinear": "linear"}
"""Interpolation of `Preprocess` -> attribute "mode" of ONNX's Resize."""


def choose_resize_mode(model: ir.Model, preprocess: Preprocess) -> str:
    """Return the attribute "mode" of the Resize nodes.

    Args:
        model: The network, whose only input is (N, 3, rows, columns).
        preprocess: The preprocessing, whose interpolation is used.

    Raises:
        RequestError: ONNX has no such interpolation, the opset cannot antialias, or the batch is
            fixed and not 1.
    """
    assert model.graph.inputs[0].shape is not None
    batch = model.graph.inputs[0].shape[0]
    opset = model.graph.opset_imports.get("", 0)
    if preprocess.interpolation not in RESIZE_MODES:
        raise RequestError(
            f"interpolation {preprocess.interpolation!r} cannot be part of a file; "
            f"{' and '.join(RESIZE_MODES)} can",
            "use --preprocess normalize, and resize images beforehand",
        )
    if opset < RESIZE_OPSET:
        raise RequestError(
            f"ONNX opset {opset} cannot resize with antialiasing as Pillow does; "
            f"opset {RESIZE_OPSET} is the first that can",
            f"use --opset {RESIZE_OPSET} or later",
        )
    if isinstance(batch, int) and batch != 1:
        raise RequestError(
            "a file that resizes takes images of any size one at a time, "
            f"and this network takes {batch} at a time",
            "use a batch of 1, or --preprocess normalize",
        )
    return RESIZE_MODES[preprocess.interpolation]


def resize_and_crop(
    builder: NodeBuilder, image: ir.Value, preprocess: Preprocess, mode: str
) -> ir.Value:
    """Add nodes that resize and crop an image; return it, uint8 (1, rows, columns, 3).

    Args:
        builder: Adds the nodes.
        image: The image, uint8 (1, height, width, 3).
        preprocess: The preprocessing, whose size and crop are used.
        mode: Attribute "mode" of the Resize nodes; see `choose_resize_mode`.
    """
    crop_size = np.array([preprocess.height, preprocess.width])
    source_size = builder.add_node("Shape", image, start=1, end=3)
    resized_size, start, end = _find_crop(builder, source_size, preprocess)
    is_first_axis, zero = _select_first_axis(builder, source_size), np.zeros(2, np.int64)

    def select(for_first_axis: NodeInput, for_second_axis: NodeInput) -> ir.Value:
        """Compute a (height, width) of values from both arguments, each a (height, width).

        The axis that is resized first gets its value from `for_first_axis`, the other axis from
        `for_second_axis`.
        """
        return builder.add_node("Where", is_first_axis, for_first_axis, for_second_axis)

    # Each axis is cropped right after it is resized: if both axes were resized before the crop, an
    # image of 1 x 5000 pixels would need 790 MiB.
    image = _resize(builder, image, select(resized_size, source_size), mode)
    image = _slice(builder, image, select(start, zero), select(end, source_size))
    image = _resize(builder, image, select(crop_size, resized_size), mode)
    image = _slice(builder, image, select(zero, start), select(crop_size, end))
    # The Reshape does not change the shape, but shape inference cannot derive it otherwise.
    return builder.add_node("Reshape", image, np.array([1, *crop_size, 3]))


def resize_to_fit(
    builder: NodeBuilder, image: ir.Value, preprocess: Preprocess, mode: str
) -> ir.Value:
    """Add nodes that resize an image so that it fits into the input's size; return it, uint8.

    Args:
        builder: Adds the nodes.
        image: The image, uint8 (1, height, width, 3).
        preprocess: The preprocessing, whose size and crop are used.
        mode: Attribute "mode" of the Resize nodes; see `choose_resize_mode`.
    """
    source_size = builder.add_node("Shape", image, start=1, end=3)
    resized_size = _fit_size(builder, source_size, preprocess)
    is_first_axis = _select_first_axis(builder, source_size)
    first_size = builder.add_node("Where", is_first_axis, resized_size, source_size)
    image = _resize(builder, image, first_size, mode)
    return _resize(builder, image, resized_size, mode)


def _fit_size(builder: NodeBuilder, source_size: ir.Value, preprocess: Preprocess) -> ir.Value:
    """Compute the int64 (height, width) of an image that fits; see `Preprocess.resized_size`."""
    numerator, denominator = _choose_scale(
        builder, source_size, preprocess.height, preprocess.width, fits=True
    )
    # source * numerator / denominator, rounded to the nearest integer, a half up.
    two = np.array([2])
    doubled = builder.add_node("Mul", builder.add_node("Mul", source_size, numerator), two)
    dividend = builder.add_node("Add", doubled, denominator)
    rounded = builder.add_node("Div", dividend, builder.add_node("Mul", denominator, two))
    return builder.add_node("Max", rounded, np.array([1]))


def pad_image(builder: NodeBuilder, values: ir.Value, preprocess: Preprocess) -> ir.Value:
    """Add nodes that pad normalized values with zeros at the bottom and at the right.

    Args:
        builder: Adds the nodes.
        values: The values, float32 (1, 3, height, width).
        preprocess: The preprocessing, whose size is that of the returned values.
    """
    size = builder.add_node("Shape", values, start=2, end=4)
    missing = builder.add_node("Sub", np.array([preprocess.height, preprocess.width]), size)
    # The numbers of zeros before each of the four axes, then after each of them.
    amounts = builder.add_node("Concat", np.zeros(6, np.int64), missing, axis=0)
    padded = builder.add_node("Pad", values, amounts)
    # The Reshape does not change the shape, but shape inference cannot derive it otherwise.
    return builder.add_node(
        "Reshape", padded, np.array([1, 3, preprocess.height, preprocess.width])
    )


def _resize(builder: NodeBuilder, image: ir.Value, sizes: NodeInput, mode: str) -> ir.Value:
    """Resize (1, height, width, 3) to the int64 (height, width) in `sizes`.

    The image is uint8 before and after, so that the engine rounds between the two axes as Pillow
    does. With `exclude_outside`, weights beyond the border are left out and the others are scaled
    up, which Pillow does too.
    """
    region_of_interest = scales = None  # Optional inputs of Resize that are not used.
    return builder.add_node(
        "Resize",
        image,
        region_of_interest,
        scales,
        sizes,
        coordinate_transformation_mode="half_pixel",
        mode=mode,
        antialias=1,
        exclude_outside=1,
        cubic_coeff_a=-0.5,
        axes=[1, 2],
    )


def _slice(builder: NodeBuilder, image: ir.Value, start: NodeInput, end: NodeInput) -> ir.Value:
    """Crop (1, height, width, 3) to the int64 (row, column) from `start` up to `end`."""
    axes = np.array([1, 2])  # height and width
    return builder.add_node("Slice", image, start, end, axes)


def _find_crop(
    builder: NodeBuilder, source_size: ir.Value, preprocess: Preprocess
) -> tuple[NodeInput, NodeInput, NodeInput]:
    """Compute the size of the resized image, and the start and the end of the crop in it.

    Each is an int64 (height, width).
    """
    crop_size = np.array([preprocess.height, preprocess.width])
    if preprocess.crop == "squash":
        return crop_size, np.zeros(2, np.int64), crop_size
    if isinstance(preprocess.resize, int):
        scaled = builder.add_node("Mul", source_size, np.array([preprocess.resize]))
        resized_size = builder.add_node("Div", scaled, builder.add_node("ReduceMin", source_size))
    else:
        resized_size = _cover_size(builder, source_size, *preprocess.resize)
    start = _halve_to_even(builder, builder.add_node("Sub", resized_size, crop_size))
    return resized_size, start, builder.add_node("Add", start, crop_size)


def _cover_size(
    builder: NodeBuilder, source_size: ir.Value, resize_height: int, resize_width: int
) -> ir.Value:
    """Compute the int64 (height, width) of an image that covers a size; see `Preprocess.resize`."""
    numerator, denominator = _choose_scale(
        builder, source_size, resize_height, resize_width, fits=False
    )
    # source * numerator / denominator, rounded to the nearest integer, a half to the even one.
    two, zero = np.array([2]), np.array([0])
    doubled = builder.add_node("Mul", builder.add_node("Mul", source_size, numerator), two)
    dividend = builder.add_node("Add", doubled, denominator)
    twice = builder.add_node("Mul", denominator, two)
    rounded = builder.add_node("Div", dividend, twice)
    is_not_half = builder.add_node("Greater", builder.add_node("Mod", dividend, twice), zero)
    odd = builder.add_node("Mod", rounded, two)
    return builder.add_node("Sub", rounded, builder.add_node("Where", is_not_half, zero, odd))


def _choose_scale(
    builder: NodeBuilder, source_size: ir.Value, height: int, width: int, fits: bool
) -> tuple[ir.Value, ir.Value]:
    """Compute the factor by which an image is scaled to a size, as int64 numerator, denominator.

    If `fits` is true, it is the largest factor with which the image fits into the size, otherwise
    the smallest with which it covers the size.
    """
    source_height, source_width = (
        builder.add_node("Gather", source_size, np.array([i])) for i in (0, 1)
    )
    uses_height = builder.add_node(
        "Less" if fits else "Greater",
        builder.add_node("Mul", source_width, np.array([height])),
        builder.add_node("Mul", source_height, np.array([width])),
    )
    numerator = builder.add_node("Where", uses_height, np.array([height]), np.array([width]))
    return numerator, builder.add_node("Where", uses_height, source_height, source_width)


def _halve_to_even(builder: NodeBuilder, excess: ir.Value) -> ir.Value:
    """Halve int64 values >= 0, rounding halves to even: (e + e // 2 % 2) // 2.

    This is how Python's round() and therefore torchvision's center crop round.
    """
    two = np.array([2])
    odd = builder.add_node("Mod", builder.add_node("Div", excess, two), two)
    return builder.add_node("Div", builder.add_node("Add", excess, odd), two)


def _select_first_axis(builder: NodeBuilder, source_size: ir.Value) -> ir.Value:
    """Compute from the image's int64 (height, width) which axis is resized first.

    Returns two bool values for (height, width), of which exactly one is true. The height is first
    only for very tall images, as in `Preprocess.resize_and_crop`.
    """
    height, width = (builder.add_node("Gather", source_size, np.array([i])) for i in (0, 1))
    limit = builder.add_node("Mul", width, np.array([TALL_ASPECT_RATIO]))
    is_tall = builder.add_node("Greater", height, limit)
    return builder.add_node("Concat", is_tall, builder.add_node("Not", is_tall), axis=0)
