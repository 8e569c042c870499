"""Preprocessing as part of an OpenVINO model.

In: a model whose one input is float32 (N, 3, size, size), normalized, and the `Preprocess` that makes such an input.
Out: the same model, with an input of the same name that is uint8 RGB: (N, size, size, 3) for the stage "normalize", one
picture (1, height, width, 3) of any size for "full". OpenVINO's ONNX reader drops antialiasing, so it is built here anew.

The resize is two matrix products whose weights the graph computes from the picture's size. OpenVINO's own Interpolate in mode
"bicubic_pillow" gives the same pixels, but its CPU kernel is compiled for each new size: a second for 500 x 375, a minute for
4000 x 3000. Weights in bfloat16 would cost levels: compile with INFERENCE_PRECISION_HINT f32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.manifest import PreprocessStage
from tinyvit.preprocess import TALL_ASPECT_RATIO, Preprocess

if TYPE_CHECKING:
    import openvino

SUPPORT = {"bicubic": 2, "bilinear": 1}
"""How far the filter reaches, in units of it: what Pillow calls its support."""


def add(model: openvino.Model, preprocess: Preprocess, stage: PreprocessStage) -> openvino.Model:
    """Put the part of preprocessing that `stage` names in front of the network, whose model is used up; "host" changes nothing.

    The pixels are those of `Preprocess.pixels`, one level of 255 away in about one of 3,000 (two levels: one in a million); the
    arithmetic after them is that of `Preprocess.normalize`.
    """
    if stage == "host":
        return model
    try:
        import openvino
        from openvino import opset11 as op
    except ImportError as error:
        raise MissingDependencyError.of("openvino", "openvino") from error
    old, size = _network_input(model, preprocess), preprocess.size
    if stage == "full":
        _check_resize(old, preprocess)
        # Where the batch was open, the network's own shapes may name it: it is 1 from here on.
        model.reshape({0: [1, 3, size, size]})
        image = op.parameter(
            openvino.PartialShape([1, -1, -1, 3]), openvino.Type.u8, name=old.get_friendly_name()
        )
        values = _resize(op, image, preprocess)
    else:
        batch = old.get_partial_shape()[0]
        image = op.parameter(
            openvino.PartialShape([batch, size, size, 3]),
            openvino.Type.u8,
            name=old.get_friendly_name(),
        )
        values = op.convert(op.transpose(image, _ints(op, 0, 3, 1, 2)), "f32")
    names, users = old.output(0).get_names(), old.output(0).get_target_inputs()
    result = _normalize(op, values, preprocess)
    for user in users:
        user.replace_source_output(result.output(0))
    old.output(0).set_names(set())
    image.output(0).set_names(names)
    changed = openvino.Model(model.get_results(), [image], model.get_friendly_name())
    changed.validate_nodes_and_infer_types()
    return changed


def _network_input(model: openvino.Model, preprocess: Preprocess) -> Any:
    import openvino

    parameters, size = model.get_parameters(), preprocess.size
    want = openvino.PartialShape([-1, 3, size, size])
    old = parameters[0]
    if (
        len(parameters) != 1
        or old.get_element_type() != openvino.Type.f32
        or not want.same_scheme(_open_batch(old))
    ):
        raise RequestError(
            f"preprocessing goes in front of one float32 input of (N, 3, {size}, {size}); this model takes {parameters}",
            "export a network of this input size with --preprocess host first",
        )
    return old


def _open_batch(parameter: Any) -> Any:
    import openvino

    shape = openvino.PartialShape(parameter.get_partial_shape())
    if shape.rank.is_static and len(shape):
        shape[0] = openvino.Dimension(-1)
    return shape


def _check_resize(parameter: Any, preprocess: Preprocess) -> None:
    batch = parameter.get_partial_shape()[0]
    if preprocess.interpolation not in SUPPORT:
        raise RequestError(
            f"no engine resizes with {preprocess.interpolation!r}; {' and '.join(SUPPORT)} can be put into a file",
            "use --preprocess normalize, and resize before",
        )
    if batch.is_static and batch.get_length() != 1:
        raise RequestError(
            f"pictures of any size go in one at a time, and this network takes {batch}",
            "use a batch of 1, or --preprocess normalize",
        )


def _resize(op: Any, image: Any, preprocess: Preprocess) -> Any:
    """uint8 (1, height, width, 3) -> float32 (1, 3, size, size), whole numbers of 0 to 255."""
    size, short = preprocess.size, preprocess.resize
    source = op.gather(op.shape_of(image, "i64"), _ints(op, 1, 2), _ints(op, 0))
    target, start = _ints(op, size, size), _ints(op, 0, 0)
    if preprocess.crop == "center":
        target = op.divide(
            op.multiply(source, _ints(op, short)),
            op.reduce_min(source, _ints(op, 0), keep_dims=True),
        )
        start = _half_to_even(op, op.subtract(target, _ints(op, size)))
    first, last, centers, reach = _taps(op, source, target, start, preprocess)
    image = op.slice(image, first, last, _ints(op, 1, 1), _ints(op, 1, 2))
    # Width before height and whole numbers in between, as on the host; of a tall picture the columns are laid as rows and back.
    tall = _tall(op, source)
    image = op.transpose(image, op.select(tall, _ints(op, 0, 3, 2, 1), _ints(op, 0, 3, 1, 2)))
    axes = op.convert(tall, "i64"), op.convert(op.logical_not(tall), "i64")
    down, across = (
        _weights(op, axis, first, last, centers, reach, preprocess.interpolation) for axis in axes
    )
    once = _levels(op, op.matmul(op.convert(image, "f32"), across, False, True))
    twice = _levels(op, op.matmul(down, once, False, False))
    return op.reshape(
        op.transpose(twice, op.select(tall, _ints(op, 0, 1, 3, 2), _ints(op, 0, 1, 2, 3))),
        _ints(op, 1, 3, size, size),
        False,
    )


def _tall(op: Any, source: Any) -> Any:
    """int64 (height, width) -> bool (1,): whether the height is resized before the width."""
    height, width = (op.gather(source, _ints(op, i), _ints(op, 0)) for i in (0, 1))
    return op.greater(height, op.multiply(width, _ints(op, TALL_ASPECT_RATIO)))


def _taps(
    op: Any, source: Any, target: Any, start: Any, preprocess: Preprocess
) -> tuple[Any, Any, Any, Any]:
    """Of (height, width), what the crop is made of: the first source pixel and the one after the last, int64 (2,); for each
    pixel of the crop its center in the source, float32 (2, size); how many source pixels one unit of the filter is wide, (2,)."""
    scale = op.divide(op.convert(source, "f32"), op.convert(target, "f32"))
    pixel = _floats(op, [np.arange(preprocess.size) + 0.5] * 2)
    centers = op.multiply(
        op.add(pixel, op.unsqueeze(op.convert(start, "f32"), _ints(op, 1))),
        op.unsqueeze(scale, _ints(op, 1)),
    )
    reach = op.maximum(scale, _floats(op, [1]))
    margin = op.add(
        op.multiply(reach, _floats(op, [SUPPORT[preprocess.interpolation]])), _floats(op, [1])
    )
    lowest, highest = (
        op.squeeze(op.gather(centers, _ints(op, i), _ints(op, 1)), _ints(op, 1))
        for i in (0, preprocess.size - 1)
    )
    first = op.maximum(op.convert(op.floor(op.subtract(lowest, margin)), "i64"), _ints(op, 0))
    last = op.minimum(op.convert(op.ceiling(op.add(highest, margin)), "i64"), source)
    return first, last, centers, reach


def _weights(
    op: Any, axis: Any, first: Any, last: Any, centers: Any, reach: Any, interpolation: str
) -> Any:
    """float32 (size, last - first) of one axis: what each source pixel counts in each pixel of the crop."""
    one, two = _floats(op, 1), _floats(op, 2)
    begin, end, center, unit = (
        op.gather(x, axis, _ints(op, 0)) for x in (first, last, centers, reach)
    )
    begin, end = (op.squeeze(x, _ints(op, 0)) for x in (begin, end))
    pixels = op.add(
        op.convert(op.range(begin, end, op.constant(np.int64(1)), "i64"), "f32"), _floats(op, 0.5)
    )
    center = op.reshape(center, _ints(op, -1, 1), False)
    far = op.abs(op.divide(op.subtract(pixels, center), unit))
    if interpolation == "bilinear":
        weights = op.relu(op.subtract(one, far))
    else:  # Keys' cubic, a = -0.5
        square, near = op.multiply(far, far), op.less(far, one)
        inner = op.add(
            op.multiply(op.subtract(op.multiply(far, _floats(op, 1.5)), _floats(op, 2.5)), square),
            one,
        )
        rest = op.relu(
            op.subtract(two, far)
        )  # -0.5 (d^3 - 5 d^2 + 8 d - 4) = -0.5 (d - 1) (d - 2)^2
        outer = op.multiply(
            op.multiply(op.subtract(one, far), _floats(op, 0.5)), op.multiply(rest, rest)
        )
        weights = op.select(near, inner, outer)
    # At the border Pillow leaves out the taps beyond it and scales the others up.
    return op.divide(weights, op.reduce_sum(weights, _ints(op, 1), keep_dims=True))


def _levels(op: Any, x: Any) -> Any:
    """Rounded to whole numbers, halves up, and clipped to 0 to 255, as Pillow's 8-bit sums are."""
    return op.clamp(op.floor(op.add(x, _floats(op, 0.5))), 0.0, 255.0)


def _half_to_even(op: Any, excess: Any) -> Any:
    """excess >= 0 -> excess / 2, halves to even, as Python's round() and so torchvision's crop: (e + e // 2 % 2) // 2."""
    two = _ints(op, 2)
    return op.divide(op.add(excess, op.floor_mod(op.divide(excess, two), two)), two)


def _normalize(op: Any, values: Any, preprocess: Preprocess) -> Any:
    # Not folded into the first convolution: its padding is zero after normalizing, not before.
    scale, shift = (value.reshape(1, 3, 1, 1) for value in preprocess.scale_and_shift())
    scaled = op.multiply(values, _floats(op, scale))
    return op.subtract(scaled, _floats(op, shift))


def _floats(op: Any, values: Any) -> Any:
    return op.constant(np.array(values, np.float32))


def _ints(op: Any, *values: int) -> Any:
    return op.constant(np.array(values, np.int64))
