"""Builds the nodes that resize and crop an image in an OpenVINO model, as Pillow does.

The resize is two matrix products, one for the width and one for the height, whose weights the graph
computes from the size of the image. OpenVINO's own Interpolate in the mode "bicubic_pillow" gives
the same pixels, but its CPU kernel is compiled for each new size, which takes 1 s for 375 x 500 and
51 s for 4000 x 3000 (docs/lab-notes/performance.md, "Preprocessing in the file").

Weights of the resize in bfloat16 would change pixels, so a model with these nodes must be compiled
with INFERENCE_PRECISION_HINT f32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyvit.export.targets.openvino.graph_helpers import Node, make_float32, make_int64
from tinyvit.images.resampling import TALL_ASPECT_RATIO
from tinyvit.preprocess import Preprocess

FILTER_RADIUS = {"bicubic": 2, "bilinear": 1}
"""Interpolation -> radius of the filter (Pillow's "support"), in source pixels at scale 1."""


@dataclass(frozen=True)
class _Window:
    """The part of the source image that the crop is computed from.

    Axis 0 of each value has the two entries (height, width).

    Attributes:
        first: First source pixel, int64 (2,).
        end: One past the last source pixel, int64 (2,).
        centers: Position in the source image of the center of each pixel of the crop, in source
            pixels, float32 (2, longest side of the crop). For the shorter side, the last center is
            repeated.
        filter_scale: Factor by which the filter is widened: source pixels per resized pixel, but at
            least 1, float32 (2,).
    """

    first: Node
    end: Node
    centers: Node
    filter_scale: Node


def add_resize_and_crop(image: Node, preprocess: Preprocess) -> Node:
    """Add nodes that resize and crop an image; for "pad", the last row and column are repeated.

    As in `Preprocess`, the width is resized before the height, and pixels are rounded in between.
    A tall image is resized in the other order: the image's axes are swapped before the products,
    and swapped back after them.

    Args:
        image: Node with RGB pixels, uint8 (1, height, width, 3).
        preprocess: The resize, the crop and the interpolation.

    Returns:
        Node with levels from 0 to 255, float32 (1, 3, height, width).
    """
    from openvino import opset11 as ops

    image_shape = ops.shape_of(image, "i64")
    spatial_axes = make_int64(1, 2)
    source_size = ops.gather(image_shape, spatial_axes, axis=make_int64(0))
    window = _find_window(source_size, preprocess)
    image = ops.slice(image, window.first, window.end, step=make_int64(1, 1), axes=spatial_axes)
    is_tall = _is_tall(source_size)
    order = ops.select(is_tall, make_int64(0, 3, 2, 1), make_int64(0, 3, 1, 2))
    image = ops.transpose(image, order)
    # The image's axis (0 height, 1 width) that is now vertical, and the one that is now horizontal.
    row_axis = ops.convert(is_tall, "i64")
    column_axis = ops.convert(ops.logical_not(is_tall), "i64")
    row_filter, column_filter = (
        _make_filter(axis, window, preprocess.interpolation) for axis in (row_axis, column_axis)
    )
    image = ops.matmul(
        ops.convert(image, "f32"), column_filter, transpose_a=False, transpose_b=True
    )
    image = _round_to_levels(image)
    image = ops.matmul(row_filter, image, transpose_a=False, transpose_b=False)
    image = _round_to_levels(image)
    order = ops.select(is_tall, make_int64(0, 1, 3, 2), make_int64(0, 1, 2, 3))
    height, width = preprocess.height, preprocess.width
    longest = max(height, width)
    image = ops.reshape(
        ops.transpose(image, order), make_int64(1, 3, longest, longest), special_zero=False
    )
    if height == width:
        return image
    # The filter of the shorter side has repeated its last row.
    axes = make_int64(2, 3)
    return ops.slice(
        image, make_int64(0, 0), make_int64(height, width), step=make_int64(1, 1), axes=axes
    )


def _is_tall(source_size: Node) -> Node:
    """Compute from int64 (height, width) whether the height is resized first: bool (1,)."""
    from openvino import opset11 as ops

    height, width = (ops.gather(source_size, make_int64(i), axis=make_int64(0)) for i in (0, 1))
    return ops.greater(height, ops.multiply(width, make_int64(TALL_ASPECT_RATIO)))


def _find_window(source_size: Node, preprocess: Preprocess) -> _Window:
    """Compute the window of the crop from the image's int64 (height, width)."""
    from openvino import opset11 as ops

    resized_size, start = find_crop(source_size, preprocess)
    scale = ops.divide(ops.convert(source_size, "f32"), ops.convert(resized_size, "f32"))
    last_pixels = np.array([[preprocess.height - 1], [preprocess.width - 1]])
    longest = int(last_pixels.max()) + 1
    centers_in_crop = make_float32(np.minimum(np.arange(longest), last_pixels) + 0.5)
    crop_start = ops.unsqueeze(ops.convert(start, "f32"), axes=make_int64(1))
    centers_in_resized = ops.add(centers_in_crop, crop_start)
    if preprocess.crop == "pad":
        last_centers = ops.subtract(ops.convert(resized_size, "f32"), make_float32([0.5]))
        centers_in_resized = ops.minimum(
            centers_in_resized, ops.unsqueeze(last_centers, axes=make_int64(1))
        )
    centers = ops.multiply(centers_in_resized, ops.unsqueeze(scale, axes=make_int64(1)))
    filter_scale = ops.maximum(scale, make_float32([1]))
    radius = make_float32([FILTER_RADIUS[preprocess.interpolation]])
    # One pixel more than the filter reaches, so that rounding errors do not cut off a pixel.
    margin = ops.add(ops.multiply(filter_scale, radius), make_float32([1]))
    lowest, highest = (
        ops.squeeze(ops.gather(centers, make_int64(i), axis=make_int64(1)), axes=make_int64(1))
        for i in (0, longest - 1)
    )
    first = ops.convert(ops.floor(ops.subtract(lowest, margin)), "i64")
    end = ops.convert(ops.ceiling(ops.add(highest, margin)), "i64")
    first, end = ops.maximum(first, make_int64(0)), ops.minimum(end, source_size)
    return _Window(first, end, centers, filter_scale)


def find_crop(source_size: Node, preprocess: Preprocess) -> tuple[Node, Node]:
    """Compute the resized (height, width) and the start of the crop in it, both int64 (2,).

    Args:
        source_size: Node with the int64 (height, width) of the image.
        preprocess: The resize and the crop. For "pad", the resized image is nowhere larger than
            the result, and the crop starts at 0.
    """
    from openvino import opset11 as ops

    if preprocess.crop == "squash":  # Both sides are resized to `size`.
        return make_int64(preprocess.height, preprocess.width), make_int64(0, 0)
    if preprocess.crop == "pad":
        return _fit_size(source_size, preprocess), make_int64(0, 0)
    if isinstance(preprocess.resize, int):
        resized_size = ops.divide(
            ops.multiply(source_size, make_int64(preprocess.resize)),
            ops.reduce_min(source_size, reduction_axes=make_int64(0), keep_dims=True),
        )
    else:
        resized_size = _cover_size(source_size, *preprocess.resize)
    crop_size = (
        make_int64(preprocess.size)
        if isinstance(preprocess.size, int)
        else make_int64(*preprocess.size)
    )
    return resized_size, _halve_to_even(ops.subtract(resized_size, crop_size))


def _cover_size(source_size: Node, resize_height: int, resize_width: int) -> Node:
    """Compute the int64 (height, width) of an image that covers a size; see `Preprocess.resize`."""
    from openvino import opset11 as ops

    numerator, denominator = _choose_scale(source_size, resize_height, resize_width, fits=False)
    # source * numerator / denominator, rounded to the nearest integer, a half to the even one.
    twice = ops.multiply(denominator, make_int64(2))
    dividend = ops.add(
        ops.multiply(ops.multiply(source_size, numerator), make_int64(2)), denominator
    )
    rounded = ops.divide(dividend, twice)
    is_not_half = ops.greater(ops.floor_mod(dividend, twice), make_int64(0))
    odd = ops.floor_mod(rounded, make_int64(2))
    return ops.subtract(rounded, ops.select(is_not_half, make_int64(0), odd))


def _fit_size(source_size: Node, preprocess: Preprocess) -> Node:
    """Compute the int64 (height, width) of an image that fits; see `Preprocess.resized_size`."""
    from openvino import opset11 as ops

    numerator, denominator = _choose_scale(
        source_size, preprocess.height, preprocess.width, fits=True
    )
    # source * numerator / denominator, rounded to the nearest integer, a half up.
    two = make_int64(2)
    dividend = ops.add(ops.multiply(ops.multiply(source_size, numerator), two), denominator)
    return ops.maximum(ops.divide(dividend, ops.multiply(denominator, two)), make_int64(1))


def _choose_scale(source_size: Node, height: int, width: int, fits: bool) -> tuple[Node, Node]:
    """Compute the factor by which an image is scaled to a size, as int64 numerator, denominator.

    If `fits` is true, it is the largest factor with which the image fits into the size, otherwise
    the smallest with which it covers the size.
    """
    from openvino import opset11 as ops

    source_height, source_width = (
        ops.gather(source_size, make_int64(i), axis=make_int64(0)) for i in (0, 1)
    )
    compare = ops.less if fits else ops.greater
    uses_height = compare(
        ops.multiply(source_width, make_int64(height)),
        ops.multiply(source_height, make_int64(width)),
    )
    numerator = ops.select(uses_height, make_int64(height), make_int64(width))
    return numerator, ops.select(uses_height, source_height, source_width)


def _make_filter(axis: Node, window: _Window, interpolation: str) -> Node:
    """Compute the weight of each source pixel for each pixel of the crop, along one axis.

    Args:
        axis: The axis of the image: 0 for the height, 1 for the width, int64 (1,).
        window: The window of the crop.
        interpolation: A key of `FILTER_RADIUS`.

    Returns:
        float32 (size, end - first); each row sums to 1.
    """
    from openvino import opset11 as ops

    first, end, center, filter_scale = (
        ops.gather(values, indices=axis, axis=make_int64(0))
        for values in (window.first, window.end, window.centers, window.filter_scale)
    )
    first, end = (ops.squeeze(value, axes=make_int64(0)) for value in (first, end))
    pixels = ops.range(first, end, step=ops.constant(np.int64(1)))
    pixels = ops.add(ops.convert(pixels, "f32"), make_float32(0.5))
    center = ops.reshape(center, make_int64(-1, 1), special_zero=False)
    distance = ops.abs(ops.divide(ops.subtract(pixels, center), filter_scale))
    evaluate = _evaluate_triangle if interpolation == "bilinear" else _evaluate_cubic
    weights = evaluate(distance)
    # Like Pillow, leave out pixels beyond the border and scale up the other weights.
    sums = ops.reduce_sum(weights, reduction_axes=make_int64(1), keep_dims=True)
    return ops.divide(weights, sums)


def _evaluate_triangle(distance: Node) -> Node:
    """Evaluate the bilinear filter: 1 - d, or 0 from d = 1 on."""
    from openvino import opset11 as ops

    return ops.relu(ops.subtract(make_float32(1), distance))


def _evaluate_cubic(distance: Node) -> Node:
    """Evaluate Keys' bicubic filter with a = -0.5, as Pillow does.

    For d < 1 it is (1.5 d - 2.5) d^2 + 1. For 1 <= d < 2 it is -0.5 (d^3 - 5 d^2 + 8 d - 4) =
    0.5 (1 - d) (2 - d)^2. From d = 2 on it is 0.
    """
    from openvino import opset11 as ops

    one, two = make_float32(1), make_float32(2)
    square, is_near = ops.multiply(distance, distance), ops.less(distance, one)
    inner = ops.subtract(ops.multiply(distance, make_float32(1.5)), make_float32(2.5))
    inner = ops.add(ops.multiply(inner, square), one)
    two_minus_d = ops.relu(ops.subtract(two, distance))
    half_one_minus_d = ops.multiply(ops.subtract(one, distance), make_float32(0.5))
    outer = ops.multiply(half_one_minus_d, ops.multiply(two_minus_d, two_minus_d))
    return ops.select(is_near, inner, outer)


def _round_to_levels(values: Node) -> Node:
    """Round to integers, halves up, and clip to the range 0 to 255, as Pillow does."""
    from openvino import opset11 as ops

    return ops.clamp(ops.floor(ops.add(values, make_float32(0.5))), 0.0, 255.0)


def _halve_to_even(excess: Node) -> Node:
    """Halve int64 values >= 0, rounding halves to even: (e + e // 2 % 2) // 2.

    This is how Python's round() and therefore torchvision's center crop round.
    """
    from openvino import opset11 as ops

    two = make_int64(2)
    return ops.divide(ops.add(excess, ops.floor_mod(ops.divide(excess, two), two)), two)
