"""Checks a .tflite file (a TensorFlow Lite model) before LiteRT's interpreter reads it.

The interpreter uses a file's offsets and indices without checking them, so a damaged file could
crash the process. This module reads the flatbuffer in Python, which cannot read beyond the bytes of
the file, and checks every index, size and type that the interpreter would use.

Source: tensorflow/lite/schema/schema.fbs; its generated reader comes with ai-edge-litert.
"""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path
from typing import Any

from tinyvit.errors import ArtifactError
from tinyvit.files.regular_files import read_bounded
from tinyvit.runtimes.engine_helpers import foreign_operators_error, load_error
from tinyvit.runtimes.engines._tflite_limits import check_counts, find_foreign_operators
from tinyvit.runtimes.formats import MAX_FILE_BYTES
from tinyvit.runtimes.formats.file_errors import unreadable_error

_FILE_IDENTIFIER = b"TFL3"
_FILE_IDENTIFIER_OFFSET = 4

_ELEMENT_BYTES = {
    "FLOAT32": 4,
    "FLOAT16": 2,
    "INT32": 4,
    "UINT8": 1,
    "INT64": 8,
    "BOOL": 1,
    "INT16": 2,
    "INT8": 1,
    "FLOAT64": 8,
    "UINT32": 4,
}
"""Maps the name of an allowed TensorType to the size of one element in bytes."""

_ZERO_POINT_RANGES = {"INT8": (-128, 127), "UINT8": (0, 255)}
"""Maps the name of a TensorType to its lowest and highest zero point; all others allow only 0."""

_WEIGHTED_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
"""Names of the BuiltinOperators whose second input is a weight."""

# Limits of a tensor's number of dimensions, number of elements, and quantization scales.
_MAX_RANK = 8
_MAX_ELEMENTS = 2**31 - 1
_MIN_SCALE, _MAX_SCALE = 1e-30, 1e30

_ABSENT = -1
"""Index that an operator states for an optional input that it does not use."""

_MIN_SCALE_RATIO, _MAX_SCALE_RATIO = 2.0**-32, 2.0**8
"""XNNPACK's limits for input scale * weight scale / output scale."""

_READER_ERRORS = (
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
    struct.error,
)
"""Errors that the generated reader raises on damaged bytes."""


def read_checked_model(path: Path, allow_foreign_operators: bool = False) -> bytes:
    """Read a .tflite file and check it.

    Args:
        path: The file.
        allow_foreign_operators: Whether the file may have operators that image classifiers do not
            need.

    Returns:
        All bytes of the file.

    Raises:
        ArtifactError: The file cannot be read, is not a .tflite file, is damaged, or has operators
            that are not allowed.
    """
    try:
        data = read_bounded(path, MAX_FILE_BYTES)
    except ValueError:
        data = b""
    except OSError as error:
        raise unreadable_error(path, error) from error
    # A file that is too large is refused here too, because its `data` is empty.
    if not data.startswith(_FILE_IDENTIFIER, _FILE_IDENTIFIER_OFFSET):
        raise ArtifactError(f"{path} is not a .tflite file", "give one that tinyvit-export wrote")
    try:
        foreign_operators = _check_model(data)
    except _READER_ERRORS as error:
        raise load_error(path, "LiteRT", error) from error
    if foreign_operators and not allow_foreign_operators:
        raise foreign_operators_error(path, foreign_operators)
    return data


def _check_model(data: bytes) -> list[str]:
    """Check the model, and return the names of its foreign operators.

    Raises one of `_READER_ERRORS` if the model is damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    check_counts(schema.Model.GetRootAs(data))
    model = schema.ModelT.InitFromPackedBuf(data)
    graph = model.subgraphs[0]
    # The tables of this module, with the schema's numbers as keys instead of names.
    element_bytes = {
        getattr(schema.TensorType, name): size for name, size in _ELEMENT_BYTES.items()
    }
    zero_point_ranges = {
        getattr(schema.TensorType, name): limits for name, limits in _ZERO_POINT_RANGES.items()
    }
    for tensor in graph.tensors:
        _check_type_and_shape(tensor, element_bytes)
        _check_buffer(tensor, model.buffers, element_bytes)
        _check_quantization(tensor, zero_point_ranges)
    kinds = _read_operator_kinds(model, schema)
    _check_data_flow(graph, model.buffers, len(kinds))
    weighted_kinds = {getattr(schema.BuiltinOperator, name) for name in _WEIGHTED_OPERATORS}
    for operator in graph.operators:
        if kinds[operator.opcodeIndex] in weighted_kinds:
            input_index, weight_index = operator.inputs[:2]
            _check_scale_ratio(
                graph.tensors[input_index],
                graph.tensors[weight_index],
                graph.tensors[operator.outputs[0]],
            )
    return find_foreign_operators(kinds, schema)


def _read_operator_kinds(model: Any, schema: Any) -> list[int]:
    """Read the BuiltinOperator of each operator code; raise ValueError for custom operators."""
    # `deprecatedBuiltinCode` ends at 127, and older files lack `builtinCode`, so the larger of the
    # two is the code.
    kinds = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    names = vars(schema.BuiltinOperator).items()
    builtins = {value for name, value in names if not name.startswith("_")}
    if not set(kinds) <= builtins - {schema.BuiltinOperator.CUSTOM}:
        raise ValueError("an operator is of an unknown kind")
    return kinds


def _check_type_and_shape(tensor: Any, element_bytes: dict[int, int]) -> None:
    """Raise ValueError unless the tensor has a known type and a possible shape."""
    shape = _read_shape(tensor)
    if tensor.type not in element_bytes or tensor.isVariable or tensor.sparsity is not None:
        raise ValueError("a tensor is of an unknown kind")
    if len(shape) > _MAX_RANK or any(size < 0 for size in shape) or prod(shape) > _MAX_ELEMENTS:
        raise ValueError("a tensor has an impossible shape")


def _check_buffer(tensor: Any, buffers: list[Any], element_bytes: dict[int, int]) -> None:
    """Raise ValueError unless the tensor's buffer is empty or has the size of the tensor."""
    if not 0 <= tensor.buffer < len(buffers):
        raise ValueError("a tensor has a buffer that does not exist")
    buffer = buffers[tensor.buffer]
    if buffer.offset or buffer.size:
        raise ValueError("a buffer is outside of the flatbuffer")
    expected_bytes = prod(_read_shape(tensor)) * element_bytes[tensor.type]
    if _count_buffer_bytes(buffer) not in (0, expected_bytes):
        raise ValueError("a buffer and its tensor have different sizes")


def _check_quantization(tensor: Any, zero_point_ranges: dict[int, tuple[int, int]]) -> None:
    """Raise ValueError unless scales and zero points are possible.

    A quantized tensor has one scale and zero point, or one of each for every index of an axis. In
    a test, a zero point outside of its type's range crashed the process.
    """
    scales = _read_scales(tensor)
    if not scales:
        return
    zero_points = tensor.quantization.zeroPoint
    if zero_points is None or len(zero_points) != len(scales):
        raise ValueError("a tensor has different numbers of scales and zero points")
    axis, shape = tensor.quantization.quantizedDimension, _read_shape(tensor)
    fits_axis = 0 <= axis < len(shape) and shape[axis] == len(scales)
    if len(scales) > 1 and not fits_axis:
        raise ValueError("a tensor has scales that do not fit its shape")
    if not all(_MIN_SCALE <= scale <= _MAX_SCALE for scale in scales):
        raise ValueError("a tensor has an impossible scale")
    lowest, highest = zero_point_ranges.get(tensor.type, (0, 0))
    if not all(lowest <= zero_point <= highest for zero_point in zero_points):
        raise ValueError("a tensor has an impossible zero point")


def _check_data_flow(graph: Any, buffers: list[Any], kind_count: int) -> None:
    """Raise ValueError if a tensor is read before it is written, or written more than once.

    The outputs of the graph must be written, too. Inputs of the graph and constants are treated as
    written at the start.
    """
    constants = {
        index
        for index, tensor in enumerate(graph.tensors)
        if _count_buffer_bytes(buffers[tensor.buffer])
    }
    written_tensors = set(_read_indices(graph.inputs, graph.tensors))
    for operator in graph.operators:
        if not 0 <= operator.opcodeIndex < kind_count:
            raise ValueError("an operator has a code that does not exist")
        inputs = set(_read_indices(operator.inputs, graph.tensors, allow_absent=True)) - {_ABSENT}
        if not inputs <= written_tensors | constants:
            raise ValueError("an operator reads a tensor before it is written")
        outputs = set(_read_indices(operator.outputs, graph.tensors))
        if outputs & (written_tensors | constants):
            raise ValueError("two operators write to one tensor")
        written_tensors |= outputs
    if not set(_read_indices(graph.outputs, graph.tensors)) <= written_tensors:
        raise ValueError("no operator writes the output")


def _check_scale_ratio(input_tensor: Any, weight: Any, output: Any) -> None:
    """Raise ValueError if the scales of an integer layer exceed XNNPACK's limits.

    In a test, LiteRT freed memory twice if they did.
    """
    input_scales, output_scales = _read_scales(input_tensor), _read_scales(output)
    weight_scales = _read_scales(weight)
    is_integer_layer = len(input_scales) == len(output_scales) == 1
    if not is_integer_layer:
        return
    ratios = (input_scales[0] * scale / output_scales[0] for scale in weight_scales)
    if not all(_MIN_SCALE_RATIO <= ratio < _MAX_SCALE_RATIO for ratio in ratios):
        raise ValueError("the scales of a layer are too far apart")


def _read_indices(indices: Any, tensors: list[Any], allow_absent: bool = False) -> list[int]:
    """Read indices of tensors; raise ValueError for one that does not exist.

    With `allow_absent`, an index may also be _ABSENT.
    """
    numbers = [] if indices is None else [int(index) for index in indices]
    lowest = _ABSENT if allow_absent else 0
    if any(not lowest <= index < len(tensors) for index in numbers):
        raise ValueError("an operator uses a tensor that does not exist")
    return numbers


def _read_shape(tensor: Any) -> list[int]:
    """Read a tensor's shape; [] for a scalar."""
    return [] if tensor.shape is None else [int(size) for size in tensor.shape]


def _read_scales(tensor: Any) -> list[float]:
    """Read a tensor's scales; [] for a tensor that is not quantized."""
    scales = None if tensor.quantization is None else tensor.quantization.scale
    return [] if scales is None else [float(scale) for scale in scales]


def _count_buffer_bytes(buffer: Any) -> int:
    """Return the size of a buffer's data in bytes."""
    return 0 if buffer.data is None else len(buffer.data)
