"""A pass that puts preprocessing into an ONNX model.

Before the pass, the model's input is float32 (N, 3, rows, columns), normalized. After it, the input
is uint8 RGB with the same name: (N, rows, columns, 3) for embedded preprocessing "normalize", or
one image (1, height, width, 3) of any size for embedded preprocessing "full".
docs/lab-notes/performance.md ("Preprocessing in the file") has times and accuracy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.export.passes.onnx_node_builder import NodeBuilder
from tinyvit.export.passes.onnx_resize import (
    choose_resize_mode,
    pad_image,
    resize_and_crop,
    resize_to_fit,
)
from tinyvit.manifest_parts import EmbeddedPreprocessing
from tinyvit.preprocess import Preprocess

if TYPE_CHECKING:
    import onnx_ir as ir


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
    builder = NodeBuilder()
    pixels = new_input
    if embedded_preprocessing == "full":
        mode = choose_resize_mode(model, preprocess)
        resize = resize_to_fit if preprocess.crop == "pad" else resize_and_crop
        pixels = resize(builder, new_input, preprocess, mode)
    normalized = _normalize(builder, pixels, preprocess)
    if preprocess.crop == "pad":
        normalized = pad_image(builder, normalized, preprocess)
    _replace_input(model, new_input, builder, normalized)


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


def _normalize(builder: NodeBuilder, pixels: ir.Value, preprocess: Preprocess) -> ir.Value:
    """Add nodes that normalize: uint8 (N, rows, columns, 3) -> float32 (N, 3, rows, columns).

    Mean and std cannot be folded into the first convolution, because its zero padding applies to
    normalized values.
    """
    scale, shift = (value.reshape(1, 3, 1, 1) for value in preprocess.scale_and_shift())
    channels_first = builder.add_node("Transpose", pixels, perm=[0, 3, 1, 2])
    values = builder.add_node("Cast", channels_first, to=_FLOAT)
    return builder.add_node("Sub", builder.add_node("Mul", values, scale), shift)


def _replace_input(
    model: ir.Model, new_input: ir.Value, builder: NodeBuilder, normalized: ir.Value
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
