"""Preprocessing as part of an ONNX model.

In: a model whose one input is float32 (N, 3, size, size), normalized, and the `Preprocess` that makes such an input.
Out: the same model, with an input of the same name that is uint8 RGB: (N, size, size, 3) for the stage "normalize", one
picture (1, height, width, 3) of any size for "full".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.manifest import PreprocessStage
from tinyvit.preprocess import TALL_ASPECT_RATIO, Preprocess

if TYPE_CHECKING:
    import onnx_ir as ir

    _Input = ir.Value | npt.NDArray[Any]

RESIZE_OPSET = 18  # the first whose Resize can antialias
MODES = {"bicubic": "cubic", "bilinear": "linear"}
FLOAT = 1  # onnx.TensorProto.FLOAT


def add(model: ir.Model, preprocess: Preprocess, stage: PreprocessStage) -> None:
    """Put the part of preprocessing that `stage` names in front of the network, in place; "host" changes nothing.

    The pixels are those of `Preprocess.pixels`, one level of 255 away in about one of 3,000 (two levels: one in a million), where
    the engine antialiases uint8 in fixed point as onnxruntime does; the arithmetic after them is that of `Preprocess.normalize`.
    """
    if stage == "host":
        return
    try:
        import onnx_ir as ir
    except ImportError as error:
        raise MissingDependencyError.of("onnx-ir", "export") from error
    old = _network_input(model, preprocess)
    shape: list[Any] = [1, "height", "width", 3]
    if stage == "normalize":
        assert old.shape is not None
        shape = [old.shape[0], preprocess.size, preprocess.size, 3]
    new = ir.Value(name=old.name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.UINT8))
    nodes = _Nodes()
    pixels = _resize(nodes, new, preprocess, _mode(model, preprocess)) if stage == "full" else new
    _connect(model, old, new, nodes, _normalize(nodes, pixels, preprocess))


class _Nodes:
    """Nodes as they are made, named so that they meet no name of the network's."""

    def __init__(self) -> None:
        import onnx_ir as ir

        self.tape = ir.tape.Tape()

    def op(self, kind: str, *inputs: _Input | None, **attributes: Any) -> ir.Value:
        """Append one node; arrays become initializers. Returns its only output."""
        import onnx_ir as ir

        values = [self._constant(x) if isinstance(x, np.ndarray) else x for x in inputs]
        name = f"preprocess/{len(self.tape.nodes)}/{kind}"
        return self.tape.op(kind, values, attributes, name=name, output=ir.Value(name=name))

    def _constant(self, array: npt.NDArray[Any]) -> ir.Value:
        import onnx_ir as ir

        return self.tape.initializer(
            ir.Tensor(array, name=f"preprocess/constant/{len(self.tape.initializers)}")
        )


def _network_input(model: ir.Model, preprocess: Preprocess) -> ir.Value:
    import onnx_ir as ir

    inputs, want = list(model.graph.inputs), (3, preprocess.size, preprocess.size)
    shape = inputs[0].shape if len(inputs) == 1 else None
    if shape is None or inputs[0].dtype != ir.DataType.FLOAT or tuple(shape)[1:] != want:
        raise RequestError(
            f"preprocessing goes in front of one float32 input of (N, 3, {preprocess.size}, {preprocess.size}); this model takes {inputs}",
            "export a network of this input size with --preprocess host first",
        )
    return inputs[0]


def _mode(model: ir.Model, preprocess: Preprocess) -> str:
    assert model.graph.inputs[0].shape is not None
    batch = model.graph.inputs[0].shape[0]
    opset = model.graph.opset_imports.get("", 0)
    if preprocess.interpolation not in MODES:
        raise RequestError(
            f"no engine resizes with {preprocess.interpolation!r}; {' and '.join(MODES)} can be put into a file",
            "use --preprocess normalize, and resize before",
        )
    if opset < RESIZE_OPSET:
        raise RequestError(
            f"ONNX opset {opset} cannot resize as Pillow does (antialiased); opset {RESIZE_OPSET} is the first",
            f"use --opset {RESIZE_OPSET} or later",
        )
    if isinstance(batch, int) and batch != 1:
        raise RequestError(
            f"pictures of any size go in one at a time, and this network takes {batch}",
            "use a batch of 1, or --preprocess normalize",
        )
    return MODES[preprocess.interpolation]


def _resize(nodes: _Nodes, image: ir.Value, preprocess: Preprocess, mode: str) -> ir.Value:
    """uint8 (1, height, width, 3) -> uint8 (1, size, size, 3)."""
    size = preprocess.size
    pair = np.array([size, size])
    options = {
        "mode": mode,
        "antialias": 1,
        "exclude_outside": 1,
        "cubic_coeff_a": -0.5,
        "axes": [1, 2],
    }
    # exclude_outside: at the border Pillow leaves out the taps beyond it and scales the others up.

    def scaled(x: ir.Value, sizes: _Input) -> ir.Value:
        # uint8 in and out: the engine then rounds between the two axes, as Pillow does.
        return nodes.op(
            "Resize", x, None, None, sizes, coordinate_transformation_mode="half_pixel", **options
        )

    def cut(x: ir.Value, start: _Input, end: _Input) -> ir.Value:
        return nodes.op("Slice", x, start, end, np.array([1, 2]))

    source = nodes.op("Shape", image, start=1, end=3)
    target, start, end = _target(nodes, source, preprocess)
    first, zero = _first_axis(nodes, source), np.zeros(2, np.int64)
    # One axis, its crop, then the other: were both resized before the crop, 1 x 5000 pixels would take 790 MiB.
    image = scaled(image, nodes.op("Where", first, target, source))
    image = cut(image, nodes.op("Where", first, start, zero), nodes.op("Where", first, end, source))
    image = scaled(image, nodes.op("Where", first, pair, target))
    image = cut(image, nodes.op("Where", first, zero, start), nodes.op("Where", first, pair, end))
    # The shape, which a reader of the file cannot infer.
    return nodes.op("Reshape", image, np.array([1, size, size, 3]))


def _target(
    nodes: _Nodes, source: ir.Value, preprocess: Preprocess
) -> tuple[_Input, _Input, _Input]:
    """int64 (height, width) -> those of the resized picture, and where the crop starts and ends in it."""
    pair = np.array([preprocess.size] * 2)
    if preprocess.crop == "squash":
        return pair, np.zeros(2, np.int64), pair
    target = nodes.op(
        "Div", nodes.op("Mul", source, np.array([preprocess.resize])), nodes.op("ReduceMin", source)
    )
    start = _half_to_even(nodes, nodes.op("Sub", target, pair))
    return target, start, nodes.op("Add", start, pair)


def _half_to_even(nodes: _Nodes, excess: ir.Value) -> ir.Value:
    """excess >= 0 -> excess / 2, halves to even, as Python's round() and so torchvision's crop: (e + e // 2 % 2) // 2."""
    two = np.array([2])
    odd = nodes.op("Mod", nodes.op("Div", excess, two), two)
    return nodes.op("Div", nodes.op("Add", excess, odd), two)


def _first_axis(nodes: _Nodes, source: ir.Value) -> ir.Value:
    """int64 (height, width) -> bool (height, width): which of them is resized first."""
    height, width = (nodes.op("Gather", source, np.array([i])) for i in (0, 1))
    tall = nodes.op("Greater", height, nodes.op("Mul", width, np.array([TALL_ASPECT_RATIO])))
    return nodes.op("Concat", tall, nodes.op("Not", tall), axis=0)


def _normalize(nodes: _Nodes, pixels: ir.Value, preprocess: Preprocess) -> ir.Value:
    # Not folded into the first convolution: its padding is zero after normalizing, not before.
    scale, shift = (value.reshape(1, 3, 1, 1) for value in preprocess.scale_and_shift())
    values = nodes.op("Cast", nodes.op("Transpose", pixels, perm=[0, 3, 1, 2]), to=FLOAT)
    scaled = nodes.op("Mul", values, scale)
    return nodes.op("Sub", scaled, shift)


def _connect(
    model: ir.Model, old: ir.Value, new: ir.Value, nodes: _Nodes, result: ir.Value
) -> None:
    graph = model.graph
    assert old.shape is not None
    assert new.shape is not None
    if old.shape[0] != new.shape[0]:
        _fix_batch(model, old.shape[0])
    result.type, result.shape = old.type, old.shape
    first = next(iter(graph))
    old.replace_all_uses_with(result)
    graph.inputs[0] = new
    for value in nodes.tape.initializers:
        graph.register_initializer(value)
    graph.insert_before(first, nodes.tape.nodes)


def _fix_batch(model: ir.Model, batch: object) -> None:
    """A batch of any size becomes 1, wherever the network's shapes name it."""
    import onnx_ir as ir

    for value in (*model.graph.inputs, *(x for node in model.graph for x in node.outputs)):
        if value.shape is not None:
            value.shape = ir.Shape([1 if extent == batch else extent for extent in value.shape])
