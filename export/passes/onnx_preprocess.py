"""A pass that puts preprocessing into an ONNX model.

Before the pass, the model's input is float32 (N, 3, rows, columns), normalized. After it, the input
is uint8 RGB with the same name: (N, rows, columns, 3) for embedded preprocessing "normalize", or
one image (1, height, width, 3) of any size for embedded preprocessing "full".
docs/lab-notes/performance.md ("Preprocessing in the file") has times and accuracy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.images.resampling import TALL_ASPECT_RATIO
from tinyvit.manifest_parts import EmbeddedPreprocessing
from tinyvit.preprocess import Preprocess

if TYPE_CHECKING:
    import onnx_ir as ir

    _Input = ir.Value | npt.NDArray[Any]

RESIZE_OPSET = 18
"""The first ONNX opset whose Resize can antialias."""

RESIZE_MODES = {"bicubic": "cubic", "bilinear": "linear"}
"""Interpolation of `Preprocess` -> attribute "mode" of ONNX's Resize."""

_FLOAT = 1
"""Value of `onnx.TensorProto.FLOAT`, repeated here to avoid importing the onnx package."""


def add_preprocessing(
    model: ir.Model, preprocess: Preprocess, embedded_preprocessing: EmbeddedPreprocessing
) -> None:
    """Put a part of the preprocessing in front of the network.

    Requires: one float32 input (N, 3, rows, columns); for "full" also opset 18 or later and a batch
        that is 1 or dynamic.
    Changes: the input becomes uint8 (see the module), and for "full" a dynamic batch becomes 1.
    Why: applications can then pass pixels and need no preprocessing code.

    In engines that antialias uint8 in fixed point, as onnxruntime does, about one value in 3,000
    differs from `Preprocess.resize_and_crop` by one level of 255, and one in a million by two
    levels. Normalization is computed as in `Preprocess.normalize`.

    Args:
        model: The model to change in place.
        preprocess: The preprocessing that makes the network's input.
        embedded_preprocessing: The part to add; "host" adds nothing.

    Raises:
        RequestError: The model or the preprocessing does not meet the requirements.
        MissingDependencyError: onnx-ir is not installed.
    """
    if embedded_preprocessing == "host":
        return
    try:
        import onnx_ir as ir
    except ImportError as error:
        raise MissingDependencyError.for_package("onnx-ir", extra="export") from error
    old_input = _find_network_input(model, preprocess)
    shape: list[Any] = [1, "height", "width", 3]
    if embedded_preprocessing == "normalize":
        assert old_input.shape is not None
        shape = [old_input.shape[0], preprocess.height, preprocess.width, 3]
    new_input = ir.Value(
        name=old_input.name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.UINT8)
    )
    builder = _NodeBuilder()
    pixels = new_input
    if embedded_preprocessing == "full":
        mode = _check_resize(model, preprocess)
        resize = _resize_to_fit if preprocess.crop == "pad" else _resize_and_crop
        pixels = resize(builder, new_input, preprocess, mode)
    normalized = _normalize(builder, pixels, preprocess)
    if preprocess.crop == "pad":
        normalized = _pad(builder, normalized, preprocess)
    _replace_input(model, new_input, builder, normalized)


class _NodeBuilder:
    """Creates nodes whose names differ from those of all nodes of the network."""

    def __init__(self) -> None:
        import onnx_ir as ir

        self.tape = ir.tape.Tape()

    def add_node(self, operator: str, *inputs: _Input | None, **attributes: Any) -> ir.Value:
        """Add a node of an ONNX operator and return its only output.

        Inputs that are arrays become initializers.
        """
        import onnx_ir as ir

        values = [
            self._add_initializer(value) if isinstance(value, np.ndarray) else value
            for value in inputs
        ]
        name = f"preprocess/{len(self.tape.nodes)}/{operator}"
        return self.tape.op(operator, values, attributes, name=name, output=ir.Value(name=name))

    def _add_initializer(self, array: npt.NDArray[Any]) -> ir.Value:
        """Add a constant to the model and return it."""
        import onnx_ir as ir

        return self.tape.initializer(
            ir.Tensor(array, name=f"preprocess/constant/{len(self.tape.initializers)}")
        )


def _find_network_input(model: ir.Model, preprocess: Preprocess) -> ir.Value:
    """Return the only input; raise RequestError unless it takes the result of preprocessing."""
    import onnx_ir as ir

    inputs, expected = list(model.graph.inputs), (3, preprocess.height, preprocess.width)
    shape = inputs[0].shape if len(inputs) == 1 else None
    if shape is None or inputs[0].dtype != ir.DataType.FLOAT or tuple(shape)[1:] != expected:
        raise RequestError(
            "preprocessing needs a network with one float32 input of "
            f"(N, 3, {preprocess.height}, {preprocess.width}); "
            f"this model takes {inputs}",
            "export a network of this input size with --preprocess host first",
        )
    return inputs[0]


def _check_resize(model: ir.Model, preprocess: Preprocess) -> str:
    """Return the mode of the Resize nodes; raise RequestError if the model cannot have them."""
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


def _resize_and_crop(
    builder: _NodeBuilder, image: ir.Value, preprocess: Preprocess, mode: str
) -> ir.Value:
    """Add nodes that resize and crop uint8 (1, height, width, 3) to (1, rows, columns, 3)."""
    crop_size = np.array([preprocess.height, preprocess.width])
    source_size = builder.add_node("Shape", image, start=1, end=3)
    resized_size, start, end = _find_crop(builder, source_size, preprocess)
    is_first_axis, zero = _select_first_axis(builder, source_size), np.zeros(2, np.int64)

    def select(for_first_axis: _Input, for_second_axis: _Input) -> ir.Value:
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


def _resize_to_fit(
    builder: _NodeBuilder, image: ir.Value, preprocess: Preprocess, mode: str
) -> ir.Value:
    """Add nodes that resize uint8 (1, height, width, 3) so that it fits into the input's size."""
    source_size = builder.add_node("Shape", image, start=1, end=3)
    resized_size = _fit_size(builder, source_size, preprocess)
    is_first_axis = _select_first_axis(builder, source_size)
    first_size = builder.add_node("Where", is_first_axis, resized_size, source_size)
    image = _resize(builder, image, first_size, mode)
    return _resize(builder, image, resized_size, mode)


def _fit_size(builder: _NodeBuilder, source_size: ir.Value, preprocess: Preprocess) -> ir.Value:
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


def _pad(builder: _NodeBuilder, values: ir.Value, preprocess: Preprocess) -> ir.Value:
    """Add nodes that add zeros at the bottom and at the right of float32 (1, 3, height, width)."""
    size = builder.add_node("Shape", values, start=2, end=4)
    missing = builder.add_node("Sub", np.array([preprocess.height, preprocess.width]), size)
    # The numbers of zeros before each of the four axes, then after each of them.
    amounts = builder.add_node("Concat", np.zeros(6, np.int64), missing, axis=0)
    padded = builder.add_node("Pad", values, amounts)
    # The Reshape does not change the shape, but shape inference cannot derive it otherwise.
    return builder.add_node(
        "Reshape", padded, np.array([1, 3, preprocess.height, preprocess.width])
    )


def _resize(builder: _NodeBuilder, image: ir.Value, sizes: _Input, mode: str) -> ir.Value:
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


def _slice(builder: _NodeBuilder, image: ir.Value, start: _Input, end: _Input) -> ir.Value:
    """Crop (1, height, width, 3) to the int64 (row, column) from `start` up to `end`."""
    axes = np.array([1, 2])  # height and width
    return builder.add_node("Slice", image, start, end, axes)


def _find_crop(
    builder: _NodeBuilder, source_size: ir.Value, preprocess: Preprocess
) -> tuple[_Input, _Input, _Input]:
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
    builder: _NodeBuilder, source_size: ir.Value, resize_height: int, resize_width: int
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
    builder: _NodeBuilder, source_size: ir.Value, height: int, width: int, fits: bool
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


def _halve_to_even(builder: _NodeBuilder, excess: ir.Value) -> ir.Value:
    """Halve int64 values >= 0, rounding halves to even: (e + e // 2 % 2) // 2.

    This is how Python's round() and therefore torchvision's center crop round.
    """
    two = np.array([2])
    odd = builder.add_node("Mod", builder.add_node("Div", excess, two), two)
    return builder.add_node("Div", builder.add_node("Add", excess, odd), two)


def _select_first_axis(builder: _NodeBuilder, source_size: ir.Value) -> ir.Value:
    """Compute from the image's int64 (height, width) which axis is resized first.

    Returns two bool values for (height, width), of which exactly one is true. The height is first
    only for very tall images, as in `Preprocess.resize_and_crop`.
    """
    height, width = (builder.add_node("Gather", source_size, np.array([i])) for i in (0, 1))
    limit = builder.add_node("Mul", width, np.array([TALL_ASPECT_RATIO]))
    is_tall = builder.add_node("Greater", height, limit)
    return builder.add_node("Concat", is_tall, builder.add_node("Not", is_tall), axis=0)


def _normalize(builder: _NodeBuilder, pixels: ir.Value, preprocess: Preprocess) -> ir.Value:
    """Add nodes that normalize: uint8 (N, rows, columns, 3) -> float32 (N, 3, rows, columns).

    Mean and std cannot be folded into the first convolution, because its zero padding applies to
    normalized values.
    """
    scale, shift = (value.reshape(1, 3, 1, 1) for value in preprocess.scale_and_shift())
    channels_first = builder.add_node("Transpose", pixels, perm=[0, 3, 1, 2])
    values = builder.add_node("Cast", channels_first, to=_FLOAT)
    return builder.add_node("Sub", builder.add_node("Mul", values, scale), shift)


def _replace_input(
    model: ir.Model, new_input: ir.Value, builder: _NodeBuilder, normalized: ir.Value
) -> None:
    """Make `new_input` the input of the model, and `normalized` the input of the network."""
    graph = model.graph
    old_input = graph.inputs[0]
    assert old_input.shape is not None
    assert new_input.shape is not None
    if old_input.shape[0] != new_input.shape[0]:
        _fix_batch(model, old_input.shape[0])
    normalized.type, normalized.shape = old_input.type, old_input.shape
    first_node = next(iter(graph))
    old_input.replace_all_uses_with(normalized)
    graph.inputs[0] = new_input
    for value in builder.tape.initializers:
        graph.register_initializer(value)
    graph.insert_before(first_node, builder.tape.nodes)


def _fix_batch(model: ir.Model, batch: object) -> None:
    """Replace the symbolic batch by 1 in every shape that contains it."""
    import onnx_ir as ir

    node_outputs = (output for node in model.graph for output in node.outputs)
    for value in (*model.graph.inputs, *node_outputs):
        if value.shape is not None:
            value.shape = ir.Shape([1 if extent == batch else extent for extent in value.shape])
