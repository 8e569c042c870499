"""A pass that puts preprocessing into an OpenVINO model.

Before the pass, the model's input is float32 (N, 3, size, size), normalized. After it, the input is
uint8 RGB with the same name: (N, size, size, 3) for embedded preprocessing "normalize", or one
image (1, height, width, 3) of any size for embedded preprocessing "full".

OpenVINO's ONNX reader ignores antialiasing, so the resize is built here: two matrix products whose
weights the graph computes from the size of the image. OpenVINO's own Interpolate in the mode
"bicubic_pillow" gives the same pixels, but its CPU kernel is compiled for each new size, which
takes 1 s for 375 x 500 and 51 s for 4000 x 3000 (docs/performance.md, "Preprocessing in the file").
Resize weights in bfloat16 would change pixels, so a model with embedded preprocessing "full" must
be compiled with INFERENCE_PRECISION_HINT f32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.manifest import EmbeddedPreprocessing
from tinyvit.preprocess import TALL_ASPECT_RATIO, Preprocess

if TYPE_CHECKING:
    import openvino

_Node: TypeAlias = Any
"""An `openvino.Node`. OpenVINO's operation sets have no types."""

SUPPORT = {"bicubic": 2, "bilinear": 1}
"""Interpolation -> radius of the filter (Pillow's "support"), in source pixels at scale 1."""


def add_preprocessing(
    model: openvino.Model, preprocess: Preprocess, embedded_preprocessing: EmbeddedPreprocessing
) -> openvino.Model:
    """Put a part of the preprocessing in front of the network.

    Requires: one float32 input (N, 3, size, size); for "full" also a batch that is 1 or dynamic.
    Changes: the input becomes uint8 (see the module), and for "full" a dynamic batch becomes 1.
    Why: applications can then pass pixels and need no preprocessing code.

    About one value in 3,000 differs from `Preprocess.resize_and_crop` by one level of 255, and one
    in a million by two levels. Normalization is computed as in `Preprocess.normalize`.

    Args:
        model: The model; it must not be used afterwards.
        preprocess: The preprocessing that makes the network's input.
        embedded_preprocessing: The part to add; "host" adds nothing.

    Returns:
        A model with the new input; `model` itself for "host".

    Raises:
        RequestError: The model or the preprocessing does not meet the requirements.
        MissingDependencyError: OpenVINO is not installed.
    """
    if embedded_preprocessing == "host":
        return model
    try:
        import openvino
        from openvino import opset11 as ops
    except ImportError as error:
        raise MissingDependencyError.for_package("openvino", extra="openvino") from error
    old_input, size = _find_network_input(model, preprocess), preprocess.size
    shape = [1, -1, -1, 3]
    if embedded_preprocessing == "full":
        _check_resize(old_input, preprocess)
        # Shapes inside the network may contain a dynamic batch, which becomes 1.
        model.reshape({0: [1, 3, size, size]})
    else:
        shape = [old_input.get_partial_shape()[0], size, size, 3]
    image = ops.parameter(
        openvino.PartialShape(shape), openvino.Type.u8, name=old_input.get_friendly_name()
    )
    if embedded_preprocessing == "full":
        values = _resize_and_crop(image, preprocess)
    else:
        values = ops.convert(ops.transpose(image, _int64(0, 3, 1, 2)), "f32")
    return _replace_input(model, old_input, image, _normalize(values, preprocess))


def _replace_input(
    model: openvino.Model, old_input: _Node, image: _Node, normalized: _Node
) -> openvino.Model:
    """Make `image` the input of the model, and `normalized` the input of the network."""
    import openvino

    names = old_input.output(0).get_names()
    for port in old_input.output(0).get_target_inputs():
        port.replace_source_output(normalized.output(0))
    old_input.output(0).set_names(set())
    image.output(0).set_names(names)
    changed = openvino.Model(model.get_results(), [image], model.get_friendly_name())
    changed.validate_nodes_and_infer_types()
    return changed


def _find_network_input(model: openvino.Model, preprocess: Preprocess) -> Any:
    """Return the only input; raise RequestError unless it takes the result of preprocessing."""
    import openvino

    parameters, size = model.get_parameters(), preprocess.size
    expected = openvino.PartialShape([-1, 3, size, size])
    if (
        len(parameters) != 1
        or parameters[0].get_element_type() != openvino.Type.f32
        or not expected.same_scheme(_shape_with_dynamic_batch(parameters[0]))
    ):
        raise RequestError(
            f"preprocessing needs a network with one float32 input of (N, 3, {size}, {size}); "
            f"this model takes {parameters}",
            "export a network of this input size with --preprocess host first",
        )
    return parameters[0]


def _shape_with_dynamic_batch(parameter: Any) -> Any:
    """Return the input's shape with a dynamic batch."""
    import openvino

    shape = openvino.PartialShape(parameter.get_partial_shape())
    if shape.rank.is_static and len(shape):
        shape[0] = openvino.Dimension(-1)
    return shape


def _check_resize(parameter: Any, preprocess: Preprocess) -> None:
    """Raise RequestError if the model cannot take images of any size."""
    batch = parameter.get_partial_shape()[0]
    if preprocess.interpolation not in SUPPORT:
        raise RequestError(
            f"interpolation {preprocess.interpolation!r} cannot be part of a file; "
            f"{' and '.join(SUPPORT)} can",
            "use --preprocess normalize, and resize images beforehand",
        )
    if batch.is_static and batch.get_length() != 1:
        raise RequestError(
            "a file that resizes takes images of any size one at a time, "
            f"and this network takes {batch}",
            "use a batch of 1, or --preprocess normalize",
        )


@dataclass(frozen=True)
class _Window:
    """The part of the image that the crop is computed from, for the axes (height, width).

    Attributes:
        first: First source pixel, int64 (2,).
        last: One past the last source pixel, int64 (2,).
        centers: Center of each pixel of the crop in the source, float32 (2, size).
        filter_scale: Factor by which the filter is widened: source pixels per resized pixel, but at
            least 1, float32 (2,).
    """

    first: _Node
    last: _Node
    centers: _Node
    filter_scale: _Node


def _resize_and_crop(image: _Node, preprocess: Preprocess) -> _Node:
    """Resize and crop: uint8 (1, height, width, 3) -> float32 (1, 3, size, size), 0 to 255.

    As in `Preprocess`, the width is resized before the height, and pixels are rounded in between. A
    tall image is resized in the other order: its axes are swapped before and swapped back after.
    """
    from openvino import opset11 as ops

    size = preprocess.size
    source = ops.gather(ops.shape_of(image, "i64"), _int64(1, 2), _int64(0))
    window = _find_window(source, preprocess)
    image = ops.slice(image, window.first, window.last, _int64(1, 1), _int64(1, 2))
    is_tall = _is_tall(source)
    order = ops.select(is_tall, _int64(0, 3, 2, 1), _int64(0, 3, 1, 2))
    image = ops.transpose(image, order)
    # The image's axis (0 height, 1 width) that is now vertical, and the one that is now horizontal.
    row_axis = ops.convert(is_tall, "i64")
    column_axis = ops.convert(ops.logical_not(is_tall), "i64")
    row_filter, column_filter = (
        _make_filter(axis, window, preprocess.interpolation) for axis in (row_axis, column_axis)
    )
    image = ops.matmul(ops.convert(image, "f32"), column_filter, False, True)
    image = _round_to_levels(image)
    image = _round_to_levels(ops.matmul(row_filter, image, False, False))
    order = ops.select(is_tall, _int64(0, 1, 3, 2), _int64(0, 1, 2, 3))
    return ops.reshape(ops.transpose(image, order), _int64(1, 3, size, size), False)


def _is_tall(source: _Node) -> _Node:
    """Compute from int64 (height, width) whether the height is resized first: bool (1,)."""
    from openvino import opset11 as ops

    height, width = (ops.gather(source, _int64(i), _int64(0)) for i in (0, 1))
    return ops.greater(height, ops.multiply(width, _int64(TALL_ASPECT_RATIO)))


def _find_window(source: _Node, preprocess: Preprocess) -> _Window:
    """Compute the window of the crop from the image's int64 (height, width)."""
    from openvino import opset11 as ops

    resized, start = _find_crop(source, preprocess)
    scale = ops.divide(ops.convert(source, "f32"), ops.convert(resized, "f32"))
    pixel = _float32([np.arange(preprocess.size) + 0.5] * 2)
    shifted = ops.add(pixel, ops.unsqueeze(ops.convert(start, "f32"), _int64(1)))
    centers = ops.multiply(shifted, ops.unsqueeze(scale, _int64(1)))
    filter_scale = ops.maximum(scale, _float32([1]))
    support = _float32([SUPPORT[preprocess.interpolation]])
    margin = ops.add(ops.multiply(filter_scale, support), _float32([1]))
    lowest, highest = (
        ops.squeeze(ops.gather(centers, _int64(i), _int64(1)), _int64(1))
        for i in (0, preprocess.size - 1)
    )
    first = ops.convert(ops.floor(ops.subtract(lowest, margin)), "i64")
    last = ops.convert(ops.ceiling(ops.add(highest, margin)), "i64")
    first, last = ops.maximum(first, _int64(0)), ops.minimum(last, source)
    return _Window(first, last, centers, filter_scale)


def _find_crop(source: _Node, preprocess: Preprocess) -> tuple[_Node, _Node]:
    """Compute the resized (height, width) and the start of the crop in it, both int64 (2,)."""
    from openvino import opset11 as ops

    size = preprocess.size
    if preprocess.crop != "center":
        return _int64(size, size), _int64(0, 0)
    resized = ops.divide(
        ops.multiply(source, _int64(preprocess.resize)),
        ops.reduce_min(source, _int64(0), keep_dims=True),
    )
    return resized, _halve_to_even(ops.subtract(resized, _int64(size)))


def _make_filter(axis: _Node, window: _Window, interpolation: str) -> _Node:
    """Compute the weight of each source pixel for each pixel of the crop, along one axis.

    Args:
        axis: 0 for the height, 1 for the width, int64 (1,).
        window: The window of the crop.
        interpolation: A key of `SUPPORT`.

    Returns:
        float32 (size, last - first); each row sums to 1.
    """
    from openvino import opset11 as ops

    first, last, center, filter_scale = (
        ops.gather(values, axis, _int64(0))
        for values in (window.first, window.last, window.centers, window.filter_scale)
    )
    first, last = (ops.squeeze(value, _int64(0)) for value in (first, last))
    pixels = ops.range(first, last, ops.constant(np.int64(1)), "i64")
    pixels = ops.add(ops.convert(pixels, "f32"), _float32(0.5))
    center = ops.reshape(center, _int64(-1, 1), False)
    distance = ops.abs(ops.divide(ops.subtract(pixels, center), filter_scale))
    evaluate = _evaluate_triangle if interpolation == "bilinear" else _evaluate_cubic
    weights = evaluate(distance)
    # Like Pillow, leave out pixels beyond the border and scale up the other weights.
    return ops.divide(weights, ops.reduce_sum(weights, _int64(1), keep_dims=True))


def _evaluate_triangle(distance: _Node) -> _Node:
    """Evaluate the bilinear filter: 1 - d, or 0 from d = 1 on."""
    from openvino import opset11 as ops

    return ops.relu(ops.subtract(_float32(1), distance))


def _evaluate_cubic(distance: _Node) -> _Node:
    """Evaluate Keys' bicubic filter with a = -0.5, as Pillow does.

    For d < 1 it is (1.5 d - 2.5) d^2 + 1. For 1 <= d < 2 it is -0.5 (d^3 - 5 d^2 + 8 d - 4) =
    0.5 (1 - d) (2 - d)^2. From d = 2 on it is 0.
    """
    from openvino import opset11 as ops

    one, two = _float32(1), _float32(2)
    square, is_near = ops.multiply(distance, distance), ops.less(distance, one)
    inner = ops.subtract(ops.multiply(distance, _float32(1.5)), _float32(2.5))
    inner = ops.add(ops.multiply(inner, square), one)
    two_minus_d = ops.relu(ops.subtract(two, distance))
    half_one_minus_d = ops.multiply(ops.subtract(one, distance), _float32(0.5))
    outer = ops.multiply(half_one_minus_d, ops.multiply(two_minus_d, two_minus_d))
    return ops.select(is_near, inner, outer)


def _round_to_levels(values: _Node) -> _Node:
    """Round halves up and clip to the range 0 to 255, as Pillow does."""
    from openvino import opset11 as ops

    return ops.clamp(ops.floor(ops.add(values, _float32(0.5))), 0.0, 255.0)


def _halve_to_even(excess: _Node) -> _Node:
    """Halve int64 values >= 0, rounding halves to even: (e + e // 2 % 2) // 2.

    This is how Python's round() and therefore torchvision's center crop round.
    """
    from openvino import opset11 as ops

    two = _int64(2)
    return ops.divide(ops.add(excess, ops.floor_mod(ops.divide(excess, two), two)), two)


def _normalize(values: _Node, preprocess: Preprocess) -> _Node:
    """Normalize float32 (N, 3, size, size) levels of 0 to 255.

    Mean and std cannot be folded into the first convolution, because its zero padding applies to
    normalized values.
    """
    from openvino import opset11 as ops

    scale, shift = (value.reshape(1, 3, 1, 1) for value in preprocess.scale_and_shift())
    return ops.subtract(ops.multiply(values, _float32(scale)), _float32(shift))


def _float32(values: npt.ArrayLike) -> _Node:
    """Make a float32 constant."""
    from openvino import opset11 as ops

    return ops.constant(np.array(values, np.float32))


def _int64(*values: int) -> _Node:
    """Make an int64 constant (number of values,)."""
    from openvino import opset11 as ops

    return ops.constant(np.array(values, np.int64))
