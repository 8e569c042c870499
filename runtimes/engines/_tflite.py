"""Whether a .tflite file is whole, before an interpreter that does not ask gets it.

LiteRT's interpreter follows a file's offsets and indices unchecked. Here the flatbuffer is read in Python, which cannot leave the bytes,
and every index, size and kind in it that the interpreter would use is held against what there is. The file's own schema is
tensorflow/lite/schema/schema.fbs; the reader is the one that ai-edge-litert brings.
"""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path
from typing import Any

from tinyvit.errors import ArtifactError
from tinyvit.runtimes.base import load_error

IDENTIFIER, IDENTIFIER_AT = b"TFL3", 4
"""How every .tflite file begins, behind four bytes of offset."""

MAX_BYTES = 2**31 - 1
"""A flatbuffer's offsets are of 31 bits."""

_BYTES = {
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
_INTEGERS = {"INT8": (-128, 127), "UINT8": (0, 255)}
"""Where zero points may lie; 0 in all other types."""
_LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_MAX_RANK, _MAX_ELEMENTS = 8, 2**31 - 1
_SMALLEST, _LARGEST = 1e-30, 1e30


def sound(path: Path) -> bytes:
    """The file's bytes. Raises ArtifactError where it cannot be read, is no .tflite file, or is damaged."""
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else b""
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error.strerror})", "check the path"
        ) from error
    if data[IDENTIFIER_AT : IDENTIFIER_AT + 4] != IDENTIFIER:
        raise ArtifactError(f"{path} is no .tflite file", "give one that tinyvit-export wrote")
    try:
        _check(data)
    except _UNREADABLE as error:
        raise load_error(path, "LiteRT", error) from error
    return data


_UNREADABLE = (
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
"""What the reader raises on damaged bytes."""


def _check(data: bytes) -> None:
    """Raises ValueError, or what the reader does, where the model is not sound."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data)
    if len(model.subgraphs) != 1:
        raise ValueError(f"{len(model.subgraphs)} subgraphs")
    sizes = {getattr(schema.TensorType, name): size for name, size in _BYTES.items()}
    limits = {getattr(schema.TensorType, name): found for name, found in _INTEGERS.items()}
    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        _check_tensor(tensor, model.buffers, sizes)
        _check_scales(tensor, limits)
    builtins = {
        value for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")
    }
    kinds = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    if not set(kinds) <= builtins - {schema.BuiltinOperator.CUSTOM}:
        raise ValueError("an operator of unknown kind")
    _check_order(graph, model.buffers, len(kinds))
    layers = {getattr(schema.BuiltinOperator, name) for name in _LAYERS}
    for operator in graph.operators:
        if kinds[operator.opcodeIndex] in layers:
            _check_ratio(*(graph.tensors[i] for i in (*operator.inputs[:2], operator.outputs[0])))


def _check_order(graph: Any, buffers: list[Any], kinds: int) -> None:
    """Each tensor is written once, by an input, a constant or an operator, before it is read."""
    constant = {i for i, tensor in enumerate(graph.tensors) if _size(buffers[tensor.buffer])}
    made = {*_indices(graph.inputs, graph.tensors)}
    for operator in graph.operators:
        if not 0 <= operator.opcodeIndex < kinds:
            raise ValueError("an operator of a kind that is not listed")
        if (
            {i for i in _indices(operator.inputs, graph.tensors, optional=True) if i >= 0}
            - made
            - constant
        ):
            raise ValueError("an operator before those that it needs")
        outputs = set(_indices(operator.outputs, graph.tensors))
        if outputs & (made | constant):
            raise ValueError("two operators write to one tensor")
        made |= outputs
    if not set(_indices(graph.outputs, graph.tensors)) <= made:
        raise ValueError("nothing writes the output")


def _indices(found: Any, tensors: list[Any], optional: bool = False) -> list[int]:
    """Numbers of tensors; -1 stands for an optional input that is left out."""
    listed = [] if found is None else [int(i) for i in found]
    if any(not (-1 if optional else 0) <= i < len(tensors) for i in listed):
        raise ValueError("a tensor that is not there")
    return listed


def _size(buffer: Any) -> int:
    return 0 if buffer.data is None else len(buffer.data)


def _check_tensor(tensor: Any, buffers: list[Any], sizes: dict[int, int]) -> None:
    shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
    if tensor.type not in sizes or tensor.isVariable or tensor.sparsity is not None:
        raise ValueError("a tensor of unknown kind")
    if len(shape) > _MAX_RANK or any(size < 0 for size in shape) or prod(shape) > _MAX_ELEMENTS:
        raise ValueError("a tensor of impossible shape")
    if not 0 <= tensor.buffer < len(buffers):
        raise ValueError("a buffer that is not there")
    buffer = buffers[tensor.buffer]
    if buffer.offset or buffer.size:
        raise ValueError("a buffer outside the model")
    if _size(buffer) not in (0, prod(shape) * sizes[tensor.type]):
        raise ValueError("a buffer of another size than its tensor's")


def _check_scales(tensor: Any, limits: dict[int, tuple[int, int]]) -> None:
    """One scale and zero point, or one for each index of an axis: a zero point outside its type was seen to end the process."""
    scales, zeros = (
        _scales(tensor),
        [] if tensor.quantization is None else tensor.quantization.zeroPoint,
    )
    if not len(scales):
        return
    axis, shape = (
        tensor.quantization.quantizedDimension,
        [] if tensor.shape is None else list(tensor.shape),
    )
    if (
        zeros is None
        or len(zeros) != len(scales)
        or (len(scales) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scales)))
    ):
        raise ValueError("scales that do not fit their tensor")
    if not all(_SMALLEST <= scale <= _LARGEST for scale in scales):
        raise ValueError("a scale that is not possible")
    lowest, highest = limits.get(tensor.type, (0, 0))
    if not all(lowest <= zero <= highest for zero in zeros):
        raise ValueError("a zero point that is not possible")


def _check_ratio(given: Any, weight: Any, made: Any) -> None:
    """Of an integer layer's scales: past XNNPACK's limits, 2^-32 and 2^8, LiteRT was seen to free memory twice."""
    before, weights, after = map(_scales, (given, weight, made))
    if len(before) == len(after) == 1 and not all(
        2.0**-32 <= before[0] * scale / after[0] < 2.0**8 for scale in weights
    ):
        raise ValueError("scales too far apart")


def _scales(tensor: Any) -> list[float]:
    found = None if tensor.quantization is None else tensor.quantization.scale
    return [] if found is None else [float(scale) for scale in found]
