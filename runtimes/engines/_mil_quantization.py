"""Computes the quantization operations of a Core ML program in numpy.

They are specified in coremltools' folder converters/mil/mil/ops/defs, in iOS16/constexpr_ops.py,
iOS17/quantization_ops.py and iOS18/compression.py. Each function takes a mapping from parameter
name to operand.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyvit.runtimes.engines._mil_products import check_broadcast
from tinyvit.runtimes.engines._mil_types import Array, Operands


def quantize(operands: Operands) -> Array:
    """Compute clip(round(input / scale) + zero_point); iOS17/quantization_ops.py, quantize.

    Ties are rounded to even (numpy's rint), as coremltools' own value_inference does.

    Args:
        operands: "input", float array; "scale", a float or one float for each index of "axis";
            optionally "zero_point", integers of the scale's shape; "output_dtype".

    Returns:
        Integers of type "output_dtype", of the input's shape.
    """
    inputs, limits = operands["input"], np.iinfo(operands["output_dtype"])
    scale = _align_with_axis(operands["scale"], inputs, operands)
    zero_point = _align_with_axis(operands.get("zero_point", 0), inputs, operands)
    check_broadcast(inputs, scale, zero_point)
    levels = np.nan_to_num(np.rint(inputs / scale) + zero_point)
    return np.asarray(np.clip(levels, limits.min, limits.max), operands["output_dtype"])


def dequantize(operands: Operands) -> Array:
    """Compute (input - zero_point) * scale; iOS17/quantization_ops.py, dequantize.

    Args:
        operands: "input", integers; "scale" and optionally "zero_point" as in `quantize`.

    Returns:
        Floats of the scale's type, of the input's shape.
    """
    return _scale_integers(operands["input"], operands)


def dequantize_constant(operands: Operands) -> Array:
    """Compute (quantized_data - zero_point) * scale for weights; iOS16/constexpr_ops.py.

    Args:
        operands: "quantized_data", integers; "scale" and optionally "zero_point" as in `quantize`.

    Returns:
        Floats of the scale's type, of the data's shape.
    """
    return _scale_integers(operands["quantized_data"], operands)


def dequantize_blocks(operands: Operands) -> Array:
    """Compute (data - offset) * scale with one scale for each block; iOS18/compression.py.

    Args:
        operands: "data", integers; "scale", float array of the same rank; optionally "offset", of
            the scale's shape. The data is divided into equal blocks. Along each axis, there are as
            many blocks as the scale has elements.

    Returns:
        Floats of the scale's type, of the data's shape.
    """
    data, scale = operands["data"], operands["scale"]
    block_shape = [size // blocks for size, blocks in zip(data.shape, scale.shape)]
    levels: Array = data.astype(scale.dtype)
    if "offset" in operands:
        levels = levels - _repeat_for_blocks(operands["offset"].astype(scale.dtype), block_shape)
    return levels * _repeat_for_blocks(scale, block_shape)


def _repeat_for_blocks(values: Array, block_shape: list[int]) -> Array:
    """Repeat each value for all elements of its block, of shape `block_shape`."""
    for axis, count in enumerate(block_shape):
        values = values.repeat(count, axis)
    return values


def _scale_integers(integers: Array, operands: Operands) -> Array:
    """Compute (integers - zero_point) * scale, with the scale's dtype."""
    scale = _align_with_axis(operands["scale"], integers, operands)
    zero_point = _align_with_axis(operands.get("zero_point", 0), integers, operands)
    check_broadcast(integers, scale, zero_point)
    levels = integers.astype(scale.dtype)
    if "zero_point" in operands:
        levels = levels - zero_point
    floats: Array = levels * scale
    return floats


def _align_with_axis(values: Any, tensor: Array, operands: Operands) -> Array:
    """Reshape a scalar, or a vector along "axis", so that it broadcasts to `tensor`."""
    values = np.asarray(values)
    shape = [1] * tensor.ndim
    if values.ndim:
        shape[int(operands.get("axis", 0))] = values.size
    return np.asarray(values.reshape(shape))
