"""Quantization operations of an ML Program in numpy.

The rules are those of coremltools' converters/mil/mil/ops/defs: iOS16/constexpr_ops.py,
iOS17/quantization_ops.py and iOS18/compression.py. Operands are given by parameter name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinyvit.runtimes.engines._mil_types import Array

Operands = Mapping[str, Any]


def quantize(operands: Operands) -> Array:
    """Compute clip(round(input / scale) + zero_point); iOS17/quantization_ops.py, quantize.

    Halves are rounded to even, as the specification's own value_inference does (numpy's rint).

    Args:
        operands: "input", float array; "scale", float, one or one for each index of "axis";
            optionally "zero_point", integers of the same shape; "output_dtype".

    Returns:
        Integers of type "output_dtype", of the input's shape.
    """
    inputs, limits = operands["input"], np.iinfo(operands["output_dtype"])
    scale = _align_with_axis(operands["scale"], inputs, operands)
    zero_point = _align_with_axis(operands.get("zero_point", 0), inputs, operands)
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
        operands: "data", integers; "scale", float array of the same rank, whose scale [i, j, ...]
            is for the block of data.shape / scale.shape elements at that place; optionally
            "offset", of the scale's shape.

    Returns:
        Floats of the scale's type, of the data's shape.
    """
    data, scale = operands["data"], operands["scale"]
    block = [elements // blocks for elements, blocks in zip(data.shape, scale.shape)]
    levels: Array = data.astype(scale.dtype)
    if "offset" in operands:
        levels = levels - _repeat_for_blocks(operands["offset"].astype(scale.dtype), block)
    return levels * _repeat_for_blocks(scale, block)


def _repeat_for_blocks(values: Array, block: list[int]) -> Array:
    """Repeat each value over the elements of its block."""
    for axis, count in enumerate(block):
        values = values.repeat(count, axis)
    return values


def _scale_integers(integers: Array, operands: Operands) -> Array:
    """Compute (integers - zero_point) * scale in the scale's type."""
    scale = _align_with_axis(operands["scale"], integers, operands)
    levels = integers.astype(scale.dtype)
    if "zero_point" in operands:
        levels = levels - _align_with_axis(operands["zero_point"], integers, operands)
    floats: Array = levels * scale
    return floats


def _align_with_axis(values: Any, tensor: Array, operands: Operands) -> Array:
    """Reshape one value, or one for each index of "axis", so that it broadcasts to `tensor`."""
    values = np.asarray(values)
    shape = [1] * tensor.ndim
    if values.ndim:
        shape[int(operands.get("axis", 0))] = values.size
    return np.asarray(values.reshape(shape))
