"""Operations of an ML Program in numpy, as coremltools specifies them (converters/mil/mil/ops/defs, the docstrings of its classes).

A function takes the operation, its operands by parameter, and returns the result; `float_` is the type of all floats, which
hold float16's values where the program says so. What an operation may do beyond what is here is an ArtifactError naming it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError
from tinyvit.runtimes.engines._mil_program import MAX_ELEMENTS, Array, Operation

Operands = Mapping[str, Any]
Rule = Callable[[Operands], Array]

MAX_PAD = 64
MAX_MACS = 2**38
"""Multiply-accumulates of one operation. All of TinyViT-21M at 512 pixels is 2**35."""


def unknown(what: str) -> ArtifactError:
    """For what the evaluator does not know."""
    return ArtifactError(
        f"the reference evaluator does not know {what}",
        "run the file on an Apple device with --runtime coreml",
    )


def compute(operation: Operation, operands: Operands, float_: npt.DTypeLike) -> Array:
    """The result, of the declared shape; floats are `float_`, rounded to float16 where the declared type is."""
    if operation.kind not in RULES:
        raise unknown(f"the operation {operation.kind}")
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            made = np.asarray(RULES[operation.kind](operands))
            if operation.kind in _RESHAPES and made.size == prod(operation.shape):
                made = made.reshape(operation.shape)
            if operation.dtype == "float16":
                made = made.astype(np.float16)
            made = made.astype(
                float_ if operation.dtype.startswith("float") else operation.dtype, copy=False
            )
    except (KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{operation.kind} cannot be computed ({type(error).__name__}: {error})",
            "the file is damaged",
        ) from error
    if made.shape != operation.shape:
        raise ArtifactError(
            f"{operation.kind} makes {made.shape}, declared are {operation.shape}",
            "the file is damaged: export it again",
        )
    return made


def erf(x: Array) -> Array:
    """Of any shape and float type, to 1e-15: math.erf at multiples of 1/128, and Taylor's series to the fifth power between."""
    values, slopes = _erf_table()
    size = np.minimum(np.abs(x), (len(values) - 1) / 128)
    node = np.rint(np.nan_to_num(size) * 128).astype(np.int32)
    n = (node / 128).astype(x.dtype)
    d, nn = size - n, n * n
    series = ((16 * nn - 48) * nn + 12) / 120
    for term in ((12 - 8 * nn) * n / 24, (4 * nn - 2) / 6, -n, np.ones(1, x.dtype)):
        series = series * d + term
    made: Array = np.copysign(
        values.astype(x.dtype)[node] + slopes.astype(x.dtype)[node] * series * d, x
    )
    return made


@cache
def _erf_table() -> tuple[Array, Array]:
    nodes = np.arange(6 * 128 + 1) / 128  # erf(6) is 1 to 2e-17
    return np.array([math.erf(n) for n in nodes]), 2 / math.sqrt(math.pi) * np.exp(-nodes * nodes)


def _gelu(o: Operands) -> Array:
    if o.get("mode", "EXACT") != "EXACT":
        raise unknown(f"gelu of mode {o['mode']}")
    x = o["x"]
    made: Array = 0.5 * x * (1 + erf(x * x.dtype.type(math.sqrt(0.5))))
    return made


def _softmax(o: Operands) -> Array:
    axis = int(o["axis"]) if "axis" in o else -1
    powers = np.exp(o["x"] - o["x"].max(axis, keepdims=True))
    made: Array = powers / powers.sum(axis, keepdims=True)
    return made


def _layer_norm(o: Operands) -> Array:
    x, axes = o["x"], tuple(map(int, o["axes"]))
    centerd = x - x.mean(axes, keepdims=True)
    made: Array = centerd / np.sqrt(
        np.square(centerd).mean(axes, keepdims=True) + x.dtype.type(o.get("epsilon", 1e-5))
    )
    return np.asarray(made * o.get("gamma", 1) + o.get("beta", 0))


def _products(shape: tuple[int, ...], depth: int) -> None:
    """Raise ArtifactError where a result of this shape is out of bounds."""
    if prod(shape) > MAX_ELEMENTS or prod(shape) * depth > MAX_MACS:
        raise ArtifactError(
            f"a product of {shape} is too large", "the file is damaged or hostile: export it again"
        )


def _linear(o: Operands) -> Array:
    x, weight = o["x"], o["weight"]
    _products((*x.shape[:-1], weight.shape[0]), weight.shape[1])
    made: Array = x @ weight.T
    return made + o["bias"] if "bias" in o else made


def _matmul(o: Operands) -> Array:
    x, y = o["x"], o["y"]
    x = x.swapaxes(-1, -2) if o.get("transpose_x") else x
    y = y.swapaxes(-1, -2) if o.get("transpose_y") else y
    _products(
        (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1]), x.shape[-1]
    )
    made: Array = x @ y
    return made


def _conv(o: Operands) -> Array:
    """NCHW (iOS15/conv.py, pad_type "custom" and "valid"), groups 1 or one a channel, as a matrix product or a sum over its taps."""
    x, weight, groups, kind = o["x"], o["weight"], int(o.get("groups", 1)), str(o["pad_type"])
    depthwise = groups == x.shape[1] == weight.shape[0]
    if (
        x.ndim != 4
        or kind not in ("custom", "valid")
        or not (groups == 1 or depthwise)
        or any(d != 1 for d in o.get("dilations", ()))
    ):
        raise unknown(
            f"conv of rank {x.ndim}, pad_type {kind}, {groups} groups, dilations {o.get('dilations')}"
        )
    pads = [int(pad) for pad in o["pad"]] if kind == "custom" else [0] * 4
    down, across = (int(stride) for stride in o.get("strides", (1, 1)))
    if min(pads) < 0 or max(pads) > MAX_PAD or min(down, across) < 1:
        raise ValueError(f"padding {pads}, strides {(down, across)}")
    rows, columns = weight.shape[2:]
    if any(pads):
        x = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[1]), (pads[2], pads[3])))
    shape = (
        len(x),
        len(weight),
        (x.shape[2] - rows) // down + 1,
        (x.shape[3] - columns) // across + 1,
    )
    _products(shape, prod(weight.shape[1:]))
    windows = np.lib.stride_tricks.sliding_window_view(x, (rows, columns), (2, 3))[
        :, :, ::down, ::across
    ]
    if depthwise:
        made = sum(
            windows[..., i, j] * weight[:, 0, i, j, None, None]
            for i in range(rows)
            for j in range(columns)
        )
    else:
        _products(windows.shape, 1)
        matrix = windows.transpose(0, 1, 4, 5, 2, 3).reshape(len(x), prod(weight.shape[1:]), -1)
        made = (weight.reshape(len(weight), -1) @ matrix).reshape(shape)
    return np.asarray(made + o["bias"][:, None, None] if "bias" in o else made)


def _along(values: Any, like: Array, o: Operands) -> Array:
    """Scales or zero points, one for all or one along `axis`, shaped to meet `like`."""
    values = np.asarray(values)
    shape = [1] * like.ndim
    if values.ndim:
        shape[int(o.get("axis", 0))] = values.size
    return np.asarray(values.reshape(shape))


def _quantize(o: Operands) -> Array:
    """clip(round(input / scale) + zero_point) (iOS17/quantization_ops.py), halves to even as its value_inference (numpy) rounds."""
    x, limits = o["input"], np.iinfo(o["output_dtype"])
    rounded = np.rint(x / _along(o["scale"], x, o)) + _along(o.get("zero_point", 0), x, o)
    return np.asarray(np.clip(np.nan_to_num(rounded), limits.min, limits.max), o["output_dtype"])


def _dequantize(o: Operands) -> Array:
    """(input - zero_point) * scale (iOS17/quantization_ops.py)."""
    return _restored(o["input"], o)


def _affine(o: Operands) -> Array:
    """scale * (quantized_data - zero_point), "at model load time or runtime" (iOS16/constexpr_ops.py)."""
    return _restored(o["quantized_data"], o)


def _restored(integers: Array, o: Operands) -> Array:
    scale = _along(o["scale"], integers, o)
    whole = integers.astype(scale.dtype)
    made: Array = (
        whole - _along(o["zero_point"], integers, o) if "zero_point" in o else whole
    ) * scale
    return made


def _blockwise(o: Operands) -> Array:
    """scale * (data - offset), each scale for a block of data.shape / scale.shape (iOS18/compression.py)."""
    data, scale = o["data"], o["scale"]
    counts = [whole // part for whole, part in zip(data.shape, scale.shape)]

    def spread(values: Array) -> Array:
        for axis, count in enumerate(counts):
            values = values.repeat(count, axis)
        return values

    made: Array = data.astype(scale.dtype)
    if "offset" in o:
        made = made - spread(o["offset"].astype(scale.dtype))
    return made * spread(scale)


def _gather(o: Operands) -> Array:
    x, indices, axis = o["x"], np.asarray(o["indices"]), int(o.get("axis", 0))
    if o.get("batch_dims", 0):
        raise unknown("gather with batch_dims")
    _products((x.size // max(1, x.shape[axis]), indices.size), 1)
    return np.asarray(np.take(x, indices, axis))


def _pairwise(compute: Callable[[Array, Array], Array]) -> Rule:
    def rule(o: Operands) -> Array:
        _products(np.broadcast_shapes(np.shape(o["x"]), np.shape(o["y"])), 1)
        return compute(o["x"], o["y"])

    return rule


_RESHAPES = ("reshape", "expand_dims", "squeeze")
"""Their result's shape is the declared one."""

RULES: dict[str, Rule] = {
    "add": _pairwise(np.add),
    "cast": lambda o: np.asarray(o["x"]),
    "clip": lambda o: np.clip(o["x"], o["alpha"], o["beta"]),
    "constexpr_affine_dequantize": _affine,
    "constexpr_blockwise_shift_scale": _blockwise,
    "conv": _conv,
    "dequantize": _dequantize,
    "gather": _gather,
    "gelu": _gelu,
    "identity": lambda o: np.asarray(o["x"]),
    "layer_norm": _layer_norm,
    "linear": _linear,
    "matmul": _matmul,
    "maximum": _pairwise(np.maximum),
    "minimum": _pairwise(np.minimum),
    "mul": _pairwise(np.multiply),
    "quantize": _quantize,
    "real_div": _pairwise(np.divide),
    "reduce_mean": lambda o: o["x"].mean(
        tuple(map(int, o["axes"])), keepdims=bool(o.get("keep_dims", False))
    ),
    "relu": lambda o: np.maximum(o["x"], 0),
    "softmax": _softmax,
    "sub": _pairwise(np.subtract),
    "transpose": lambda o: o["x"].transpose([int(axis) for axis in o["perm"]]),
    **dict.fromkeys(_RESHAPES, lambda o: np.asarray(o["x"])),
}
