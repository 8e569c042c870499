"""Computes the operations of a Core ML program in numpy.

The operations are specified by the docstrings in coremltools' folder converters/mil/mil/ops/defs;
file names below refer to that folder. Each function takes a mapping from parameter name to operand
and returns the result. Operations and attributes that are not implemented raise ArtifactError.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError
from tinyvit.runtimes.engines._mil_products import (
    check_broadcast,
    check_result_size,
    conv,
    linear,
    matmul,
)
from tinyvit.runtimes.engines._mil_quantization import (
    dequantize,
    dequantize_blocks,
    dequantize_constant,
    quantize,
)
from tinyvit.runtimes.engines._mil_types import (
    MAX_TENSOR_ELEMENTS,
    Array,
    Operands,
    Operation,
    unsupported_error,
)

_OPERAND_ERRORS = (
    KeyError,
    ValueError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
)
"""Errors of numpy for operands that do not fit each other, and for numbers that are not finite."""

OperationFunction = Callable[[Operands], Array]

_ERF_STEPS = 128
"""The table of erf, the error function, has entries at multiples of 1 / _ERF_STEPS."""

_BLOCK_ELEMENTS = 2**18
"""Number of elements for which GELU is computed at once."""

_ERF_LIMIT = 6
"""Largest argument in the table of erf; erf(6) differs from 1 by 2e-17."""


def compute_operation(
    operation: Operation, operands: Operands, float_dtype: npt.DTypeLike
) -> Array:
    """Compute one operation and check its result against the declared shape.

    Args:
        operation: The operation.
        operands: Value of each parameter, an array or a string.
        float_dtype: Type of all floats, float32 or float64. A result that is declared as float16
            is rounded to float16 and then converted back to this type.

    Returns:
        The result, of the declared shape.

    Raises:
        ArtifactError: The operation is not supported, or its operands or declared shape are wrong.
    """
    if operation.kind not in OPERATIONS:
        raise unsupported_error(f"the operation {operation.kind}")
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            result = np.asarray(OPERATIONS[operation.kind](operands))
            if operation.kind in _RESHAPING_KINDS and result.size == prod(operation.shape):
                result = result.reshape(operation.shape)
            if operation.dtype == "float16":
                result = result.astype(np.float16)
            is_float = operation.dtype.startswith("float")
            result = result.astype(float_dtype if is_float else operation.dtype, copy=False)
    except _OPERAND_ERRORS as error:
        raise ArtifactError(
            f"{operation.kind} cannot be computed ({type(error).__name__}: {error})",
            "the file is damaged: export it again",
        ) from error
    if result.shape != operation.shape:
        raise ArtifactError(
            f"{operation.kind} computes shape {result.shape}, but {operation.shape} is declared",
            "the file is damaged: export it again",
        )
    return result


def erf(values: Array) -> Array:
    """Compute the error function with an error of 1e-15 (in float64).

    A table contains math.erf at multiples of 1/128. Around the multiple that is nearest to a value,
    Taylor's series up to the fifth power is used.

    Args:
        values: Floats of any shape.

    Returns:
        Floats of the same shape and type.
    """
    table, slopes = _make_erf_table()
    magnitude = np.minimum(np.abs(values), (len(table) - 1) / _ERF_STEPS)
    index = np.rint(np.nan_to_num(magnitude) * _ERF_STEPS).astype(np.int32)
    nearest = (index / _ERF_STEPS).astype(values.dtype)
    distance, square = magnitude - nearest, nearest * nearest
    # Coefficients of Taylor's series, divided by the slope of erf. The loop is Horner's method.
    coefficient_of_power_5 = ((16 * square - 48) * square + 12) / 120
    coefficients_of_powers_4_to_1 = (
        (12 - 8 * square) * nearest / 24,
        (4 * square - 2) / 6,
        -nearest,
        np.ones(1, values.dtype),
    )
    series = coefficient_of_power_5
    for coefficient in coefficients_of_powers_4_to_1:
        series = series * distance + coefficient
    change = slopes.astype(values.dtype)[index] * series * distance
    result: Array = np.copysign(table.astype(values.dtype)[index] + change, values)
    return result


@cache
def _make_erf_table() -> tuple[Array, Array]:
    """Compute erf and its slope, float64, at multiples of 1/128 from 0 to 6."""
    nodes = np.arange(_ERF_LIMIT * _ERF_STEPS + 1) / _ERF_STEPS
    slopes = 2 / math.sqrt(math.pi) * np.exp(-nodes * nodes)
    return np.array([math.erf(node) for node in nodes]), slopes


def _gelu(operands: Operands) -> Array:
    """Compute the exact GELU, not one of its approximations; iOS15/activation.py."""
    if operands.get("mode", "EXACT") != "EXACT":
        raise unsupported_error(f"gelu of mode {operands['mode']}")
    inputs = np.asarray(operands["x"])
    result: Array = np.empty(inputs.shape, inputs.dtype)
    flat_inputs, flat_result = inputs.reshape(-1), result.reshape(-1)
    scale = inputs.dtype.type(math.sqrt(0.5))
    # In blocks, because erf needs ten times the memory of its input.
    for start in range(0, inputs.size, _BLOCK_ELEMENTS):
        block = flat_inputs[start : start + _BLOCK_ELEMENTS]
        flat_result[start : start + _BLOCK_ELEMENTS] = 0.5 * block * (1 + erf(block * scale))
    return result


def _softmax(operands: Operands) -> Array:
    """Compute the softmax along one axis; iOS15/activation.py."""
    inputs, axis = operands["x"], int(operands.get("axis", -1))
    powers = np.exp(inputs - inputs.max(axis, keepdims=True))
    result: Array = powers / powers.sum(axis, keepdims=True)
    return result


def _read_axes(operands: Operands) -> tuple[int, ...]:
    """Read the optional parameter "axes"; without it, return all axes of "x"."""
    axes = operands.get("axes", range(operands["x"].ndim))
    return tuple(int(axis) for axis in axes)


def _layer_norm(operands: Operands) -> Array:
    """Normalize along the axes, then scale by gamma and add beta; iOS15/normalization.py."""
    inputs, axes = operands["x"], _read_axes(operands)
    epsilon = inputs.dtype.type(operands.get("epsilon", 1e-5))
    deviation = inputs - inputs.mean(axes, keepdims=True)
    variance = np.square(deviation).mean(axes, keepdims=True)
    result: Array = deviation / np.sqrt(variance + epsilon)
    # gamma and beta have only the axes that are normalized. The other axes are added as 1, so that
    # gamma and beta broadcast.
    normalized_axes = {axis % inputs.ndim for axis in axes}  # A negative axis counts from the end.
    shape = [size if axis in normalized_axes else 1 for axis, size in enumerate(inputs.shape)]
    gamma, beta = (
        np.reshape(operands[name], shape) if name in operands else default
        for name, default in (("gamma", 1), ("beta", 0))
    )
    return np.asarray(result * gamma + beta)


def _gather(operands: Operands) -> Array:
    """Take slices along one axis; iOS15/scatter_gather.py."""
    inputs, indices = operands["x"], np.asarray(operands["indices"])
    axis = int(operands.get("axis", 0))
    if operands.get("batch_dims", 0):
        raise unsupported_error("gather with batch_dims")
    check_result_size((inputs.size // max(1, inputs.shape[axis]), indices.size))
    return np.asarray(np.take(inputs, indices, axis))


def _clip(operands: Operands) -> Array:
    """Limit values to alpha (lowest) and beta (highest); iOS15/elementwise_unary.py."""
    bounds = operands["alpha"], operands["beta"]
    check_broadcast(operands["x"], *bounds)
    return np.asarray(np.clip(operands["x"], *bounds))


def _pad(operands: Operands) -> Array:
    """Add a constant around the last dimensions; iOS15/tensor_operation.py.

    For each of these dimensions, `pad` has the numbers of elements to add before and after.
    """
    inputs = operands["x"]
    if operands.get("mode", "constant") != "constant":
        raise unsupported_error(f"pad with mode {operands['mode']!s:.20}")
    amounts = np.asarray(operands["pad"], np.int64).reshape(-1, 2)
    if (amounts < 0).any() or (amounts > MAX_TENSOR_ELEMENTS).any():
        raise ValueError("an amount of padding is out of range")
    unchanged = np.zeros((inputs.ndim - len(amounts), 2), np.int64)
    amounts = np.concatenate([unchanged, amounts])
    check_result_size([size + int(added) for size, added in zip(inputs.shape, amounts.sum(1))])
    value = float(operands.get("constant_val", 0))
    return np.asarray(np.pad(inputs, amounts, constant_values=value))


def _reduce_mean(operands: Operands) -> Array:
    """Average along the axes; iOS15/reduction.py."""
    keep_axes = bool(operands.get("keep_dims", False))
    return np.asarray(operands["x"].mean(_read_axes(operands), keepdims=keep_axes))


def _relu(operands: Operands) -> Array:
    """Replace negative values by 0; iOS15/activation.py."""
    return np.asarray(np.maximum(operands["x"], 0))


def _transpose(operands: Operands) -> Array:
    """Reorder the dimensions; iOS15/tensor_transformation.py."""
    return np.asarray(operands["x"].transpose([int(axis) for axis in operands["perm"]]))


def _slice_by_index(operands: Operands) -> Array:
    """Take a range along each dimension; iOS15/tensor_transformation.py."""
    inputs = operands["x"]
    if np.any(operands.get("squeeze_mask", False)):
        raise unsupported_error("slice_by_index with squeeze_mask")
    starts, ends = (np.array(operands[name], np.int64) for name in ("begin", "end"))
    strides = np.array(operands.get("stride", np.ones(inputs.ndim)), np.int64)
    is_from_start = np.broadcast_to(operands.get("begin_mask", False), inputs.ndim)
    is_to_end = np.broadcast_to(operands.get("end_mask", False), inputs.ndim)
    ranges = [
        slice(
            None if is_from_start[axis] else int(starts[axis]),
            None if is_to_end[axis] else int(ends[axis]),
            int(strides[axis]),
        )
        for axis in range(inputs.ndim)
    ]
    return np.asarray(inputs[tuple(ranges)])


def _return_input(operands: Operands) -> Array:
    """Return the input unchanged; `compute_operation` then applies the declared shape and type."""
    return np.asarray(operands["x"])


def _make_elementwise(function: Callable[[Any, Any], Any]) -> OperationFunction:
    """Make an operation from a numpy function of x and y; iOS15/elementwise_binary.py.

    The operation broadcasts x and y.
    """

    def compute_elementwise(operands: Operands) -> Array:
        check_broadcast(operands["x"], operands["y"])
        return np.asarray(function(operands["x"], operands["y"]))

    return compute_elementwise


_RESHAPING_KINDS = ("reshape", "expand_dims", "squeeze")
"""Operations that only change the shape; the new shape is the one that the program declares."""

OPERATIONS: dict[str, OperationFunction] = {
    "add": _make_elementwise(np.add),
    "cast": _return_input,
    "clip": _clip,
    "constexpr_affine_dequantize": dequantize_constant,
    "constexpr_blockwise_shift_scale": dequantize_blocks,
    "conv": conv,
    "dequantize": dequantize,
    "expand_dims": _return_input,
    "gather": _gather,
    "gelu": _gelu,
    "identity": _return_input,
    "layer_norm": _layer_norm,
    "linear": linear,
    "matmul": matmul,
    "maximum": _make_elementwise(np.maximum),
    "minimum": _make_elementwise(np.minimum),
    "mul": _make_elementwise(np.multiply),
    "pad": _pad,
    "quantize": quantize,
    "real_div": _make_elementwise(np.divide),
    "reduce_mean": _reduce_mean,
    "relu": _relu,
    "reshape": _return_input,
    "slice_by_index": _slice_by_index,
    "softmax": _softmax,
    "squeeze": _return_input,
    "sub": _make_elementwise(np.subtract),
    "transpose": _transpose,
}
"""Maps the name of an operation to the function that computes it."""
