"""Computes the matrix products and convolutions of a Core ML program in numpy.

They are specified in coremltools' folder converters/mil/mil/ops/defs, in iOS15/linear.py and
iOS15/conv.py. Each function takes a mapping from parameter name to operand. All float operands of a
call are float32, or all are float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from tinyvit.errors import ArtifactError
from tinyvit.runtimes.engines._mil_types import (
    MAX_PROGRAM_MACS,
    MAX_TENSOR_ELEMENTS,
    Array,
    Operands,
    unsupported_error,
)

_MAX_PADDING = 64
"""Largest allowed padding of a convolution on each side, in pixels."""


def check_result_size(shape: Sequence[int], macs_per_element: int = 1) -> None:
    """Raise an error if a result would take too much memory or time. Call this before computing it.

    Args:
        shape: Shape of the result.
        macs_per_element: Multiply-accumulates for each element of the result.

    Raises:
        ArtifactError: The result has too many elements or multiply-accumulates.
    """
    if prod(shape) > MAX_TENSOR_ELEMENTS or prod(shape) * macs_per_element > MAX_PROGRAM_MACS:
        raise ArtifactError(
            f"an operation with a result of shape {tuple(shape)} is too large",
            "the file is damaged or hostile: export it again",
        )


def check_broadcast(*operands: Any) -> None:
    """Raise an error if operands broadcast to a result that would take too much memory.

    Args:
        operands: Arrays or numbers.

    Raises:
        ArtifactError: The result has too many elements.
        ValueError: The shapes do not fit each other.
    """
    check_result_size(np.broadcast_shapes(*(np.shape(operand) for operand in operands)))


def _check_floats(*operands: Array) -> None:
    """Raise ValueError unless all are floats: numpy's products of integers take very long."""
    if any(operand.dtype.kind != "f" for operand in operands):
        raise ValueError("its operands are not floats")


def linear(operands: Operands) -> Array:
    """Compute x @ weight.T + bias.

    Args:
        operands: "x", float (..., inputs); "weight", float (outputs, inputs); optionally "bias",
            float (outputs,).

    Returns:
        Float (..., outputs).
    """
    inputs, weight = operands["x"], operands["weight"]
    _check_floats(inputs, weight)
    if weight.ndim != 2:
        raise ValueError(f"its weight has the shape {weight.shape}")
    result_shape = (*inputs.shape[:-1], weight.shape[0])
    check_result_size(result_shape, macs_per_element=weight.shape[1])
    product: Array = inputs @ weight.T
    if "bias" not in operands:
        return product
    check_broadcast(product, operands["bias"])
    return np.asarray(product + operands["bias"])


def matmul(operands: Operands) -> Array:
    """Compute x @ y for matrices in the last two dimensions; the other dimensions are broadcast.

    Args:
        operands: "x" and "y", float arrays; optionally "transpose_x" and "transpose_y", which
            transpose the last two dimensions first.

    Returns:
        Float (..., rows of x, columns of y).
    """
    left, right = operands["x"], operands["y"]
    _check_floats(left, right)
    left = left.swapaxes(-1, -2) if operands.get("transpose_x") else left
    right = right.swapaxes(-1, -2) if operands.get("transpose_y") else right
    outer_shape = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    result_shape = (*outer_shape, left.shape[-2], right.shape[-1])
    check_result_size(result_shape, macs_per_element=left.shape[-1])
    product: Array = left @ right
    return product


def conv(operands: Operands) -> Array:
    """Compute a two-dimensional convolution with pad_type "custom" or "valid" and no dilation.

    Args:
        operands: "x", float (batch, channels, height, width); "weight", float (outputs, channels
            per group, rows, columns); optionally "pad_type" (default "valid"), "pad" (top, bottom,
            left, right; only for "custom", default 0), "strides" (down, across), "groups" (1, or
            one for each channel) and "bias" (outputs,).

    Returns:
        Float (batch, outputs, height, width).

    Raises:
        ArtifactError: The convolution is of a kind that this function does not support.
        ValueError: The padding or the strides are out of range.
    """
    inputs, weight = operands["x"], operands["weight"]
    _check_floats(inputs, weight)
    _check_conv_kind(operands)
    padding, strides = _read_padding_and_strides(operands)
    if any(padding):
        top, bottom, left, right = padding
        height, width = inputs.shape[2] + top + bottom, inputs.shape[3] + left + right
        check_result_size((*inputs.shape[:2], height, width))
        inputs = np.pad(inputs, ((0, 0), (0, 0), (top, bottom), (left, right)))
    if _is_depthwise(operands):
        result = _depthwise_conv(inputs, weight, strides)
    else:
        result = _ungrouped_conv(inputs, weight, strides)
    if "bias" in operands:
        bias = operands["bias"][:, None, None]
        check_broadcast(result, bias)
        result = result + bias
    return np.asarray(result)


def _is_depthwise(operands: Operands) -> bool:
    """Return whether the convolution is depthwise: one group and one filter for each channel."""
    groups = int(operands.get("groups", 1))
    return bool(groups == operands["x"].shape[1] == operands["weight"].shape[0])


def _read_pad_type(operands: Operands) -> str:
    """Read how the convolution is padded; "valid" means not at all."""
    return str(operands.get("pad_type", "valid"))


def _check_conv_kind(operands: Operands) -> None:
    """Raise ArtifactError unless `conv` supports this kind of convolution."""
    rank, groups = operands["x"].ndim, int(operands.get("groups", 1))
    pad_type, dilations = _read_pad_type(operands), operands.get("dilations", ())
    is_supported = (
        rank == 4
        and pad_type in ("custom", "valid")
        and (groups == 1 or _is_depthwise(operands))
        and all(dilation == 1 for dilation in dilations)
    )
    if not is_supported:
        raise unsupported_error(
            f"conv of rank {rank} with pad_type {pad_type}, {groups} groups and "
            f"dilations {operands.get('dilations')}"
        )


def _read_padding_and_strides(operands: Operands) -> tuple[list[int], tuple[int, int]]:
    """Read the padding (top, bottom, left, right) and the strides (down, across).

    Raises ValueError if they are out of range.
    """
    is_padded = _read_pad_type(operands) == "custom" and "pad" in operands
    padding = [int(size) for size in operands["pad"]] if is_padded else [0] * 4
    down, across = (int(stride) for stride in operands.get("strides", (1, 1)))
    if min(padding) < 0 or max(padding) > _MAX_PADDING or min(down, across) < 1:
        raise ValueError(f"padding {padding} or strides {(down, across)} are out of range")
    return padding, (down, across)


def _conv_windows(inputs: Array, weight: Array, strides: tuple[int, int]) -> Array:
    """Return a view of the parts of the inputs that the filters see, one window for each output.

    Its shape is (batch, channels, output height, output width, filter rows, filter columns).
    """
    rows, columns = weight.shape[2:]
    down, across = strides
    height, width = (inputs.shape[2] - rows) // down + 1, (inputs.shape[3] - columns) // across + 1
    result_shape = (len(inputs), len(weight), height, width)
    check_result_size(result_shape, macs_per_element=prod(weight.shape[1:]))
    windows = np.lib.stride_tricks.sliding_window_view(inputs, (rows, columns), axis=(2, 3))
    return windows[:, :, ::down, ::across]


def _depthwise_conv(inputs: Array, weight: Array, strides: tuple[int, int]) -> Array:
    """Compute a depthwise convolution, which has one filter for each channel.

    It is a sum over the positions in the filter, so that the windows need not be copied.
    """
    windows = _conv_windows(inputs, weight, strides)
    rows, columns = weight.shape[2:]
    return np.asarray(
        sum(
            windows[..., row, column] * weight[:, 0, row, column, None, None]
            for row in range(rows)
            for column in range(columns)
        )
    )


def _ungrouped_conv(inputs: Array, weight: Array, strides: tuple[int, int]) -> Array:
    """Compute a convolution without groups as a matrix product.

    The filters are multiplied by a matrix with one column for each window (im2col).
    """
    windows = _conv_windows(inputs, weight, strides)
    check_result_size(windows.shape)
    batch, _, height, width = windows.shape[:4]
    depth = prod(weight.shape[1:])
    matrix = windows.transpose(0, 1, 4, 5, 2, 3).reshape(batch, depth, -1)
    product: Array = weight.reshape(len(weight), -1) @ matrix
    return product.reshape(batch, len(weight), height, width)
