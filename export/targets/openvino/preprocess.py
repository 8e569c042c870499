"""A pass that puts preprocessing into an OpenVINO model.

Before the pass, the model's input is float32 (N, 3, height, width), normalized. After it, the input
is uint8 RGB with the same name: (N, height, width, 3) for embedded preprocessing "normalize", or
one image (1, rows, columns, 3) of any size for embedded preprocessing "full".

The shared pass for ONNX (`passes/onnx_preprocess.py`) is not used, because OpenVINO's ONNX reader
ignores antialiasing. `resize.py` builds the resize from other operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.export.targets.openvino.graph_helpers import Node, make_float32, make_int64
from tinyvit.export.targets.openvino.resize import FILTER_RADIUS, add_resize_and_crop, find_crop
from tinyvit.manifest_parts import EmbeddedPreprocessing
from tinyvit.preprocess import Preprocess

if TYPE_CHECKING:
    import openvino


def add_preprocessing(
    model: openvino.Model, preprocess: Preprocess, embedded_preprocessing: EmbeddedPreprocessing
) -> openvino.Model:
    """Put a part of the preprocessing in front of the network.

    Requires: one float32 input (N, 3, height, width); for "full" also a batch that is 1 or dynamic.
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
    old_input = _find_network_input(model, preprocess)
    height, width = preprocess.height, preprocess.width
    if embedded_preprocessing == "full":
        _check_resize(old_input, preprocess)
        # Shapes inside the network may contain a dynamic batch, which becomes 1.
        input_index = 0
        model.reshape({input_index: [1, 3, height, width]})
        shape = [1, -1, -1, 3]  # -1 stands for any size.
    else:
        shape = [old_input.get_partial_shape()[0], height, width, 3]
    image = ops.parameter(
        openvino.PartialShape(shape), openvino.Type.u8, name=old_input.get_friendly_name()
    )
    if embedded_preprocessing == "full":
        values = add_resize_and_crop(image, preprocess)
    else:
        values = ops.convert(ops.transpose(image, make_int64(0, 3, 1, 2)), "f32")
    normalized = _normalize(values, preprocess)
    if preprocess.crop == "pad":
        normalized = _erase_padding(image, normalized, preprocess)
    return _replace_input(model, old_input, image, normalized)


def _erase_padding(image: Node, normalized: Node, preprocess: Preprocess) -> Node:
    """Replace the values beyond the resized image by zeros, float32 (1, 3, height, width).

    They are multiplied by 0 instead of being cut off and padded, so that all shapes are fixed.
    """
    from openvino import opset11 as ops

    image_shape = ops.shape_of(image, "i64")
    source_size = ops.gather(image_shape, make_int64(1, 2), axis=make_int64(0))
    resized_size, _ = find_crop(source_size, preprocess)
    values = normalized
    for axis, shape in enumerate(((1, 1, -1, 1), (1, 1, 1, -1))):
        side = (preprocess.height, preprocess.width)[axis]
        limit = ops.gather(resized_size, make_int64(axis), axis=make_int64(0))
        is_image = ops.convert(ops.less(make_int64(*range(side)), limit), "f32")
        values = ops.multiply(values, ops.reshape(is_image, make_int64(*shape), special_zero=False))
    return values


def _replace_input(
    model: openvino.Model, old_input: Node, image: Node, normalized: Node
) -> openvino.Model:
    """Make `image` the input of the model, and `normalized` the input of the network."""
    import openvino

    names = old_input.output(0).get_names()
    for port in old_input.output(0).get_target_inputs():
        port.replace_source_output(normalized.output(0))
    old_input.output(0).set_names(set())
    image.output(0).set_names(names)
    new_model = openvino.Model(model.get_results(), [image], model.get_friendly_name())
    new_model.validate_nodes_and_infer_types()
    return new_model


def _find_network_input(model: openvino.Model, preprocess: Preprocess) -> Any:
    """Return the only input; raise RequestError unless it takes the result of preprocessing."""
    import openvino

    parameters, (height, width) = model.get_parameters(), (preprocess.height, preprocess.width)
    expected = openvino.PartialShape([-1, 3, height, width])
    if (
        len(parameters) != 1
        or parameters[0].get_element_type() != openvino.Type.f32
        or not expected.same_scheme(_make_batch_dynamic(parameters[0]))
    ):
        raise RequestError(
            f"preprocessing needs a network with one float32 input of (N, 3, {height}, {width}); "
            f"this model takes {parameters}",
            "export a network of this input size with --preprocess host first",
        )
    return parameters[0]


def _make_batch_dynamic(parameter: Any) -> Any:
    """Return a copy of the shape of an input, in which the batch axis is dynamic."""
    import openvino

    shape = openvino.PartialShape(parameter.get_partial_shape())
    if shape.rank.is_static and len(shape):
        shape[0] = openvino.Dimension(-1)
    return shape


def _check_resize(parameter: Any, preprocess: Preprocess) -> None:
    """Raise RequestError if no resize can be put in front of the network with this input."""
    batch = parameter.get_partial_shape()[0]
    if preprocess.interpolation not in FILTER_RADIUS:
        raise RequestError(
            f"interpolation {preprocess.interpolation!r} cannot be part of a file; "
            f"{' and '.join(FILTER_RADIUS)} can",
            "use --preprocess normalize, and resize images beforehand",
        )
    if batch.is_static and batch.get_length() != 1:
        raise RequestError(
            "a file that resizes takes images of any size one at a time, "
            f"and this network takes {batch}",
            "use a batch of 1, or --preprocess normalize",
        )


def _normalize(values: Node, preprocess: Preprocess) -> Node:
    """Add nodes that normalize levels from 0 to 255, float32 (N, 3, height, width).

    Mean and std cannot be folded into the first convolution, because its zero padding applies to
    normalized values.
    """
    from openvino import opset11 as ops

    scale, shift = (value.reshape(1, 3, 1, 1) for value in preprocess.scale_and_shift())
    return ops.subtract(ops.multiply(values, make_float32(scale)), make_float32(shift))
