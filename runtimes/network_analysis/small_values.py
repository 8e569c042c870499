"""Computes the values of small tensors, such as the sizes to which a network resizes images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tinyvit.runtimes.formats.network_graph import VALUE_TYPES, Node
from tinyvit.runtimes.network_analysis.tensor_facts import Shape, Tensor

Values: TypeAlias = "npt.NDArray[Any]"


def compute_values(node: Node, inputs: Sequence[Tensor | None], shape: Shape) -> Values | None:
    """Compute the values of the first output of an operator.

    Args:
        node: The operator.
        inputs: Its inputs; None for one that is left out.
        shape: Sizes of the output.

    Returns:
        The values; None if they are not known.
    """
    if node.operator == "Shape":
        source = inputs[0].shape if inputs and inputs[0] else ()
        part = source[node.attributes.get("start", 0) : node.attributes.get("end")]
        return np.array(part, np.int64)
    values = [tensor.values for tensor in inputs if tensor is not None]
    if node.operator not in _FUNCTIONS or not values or any(value is None for value in values):
        return None
    try:
        with np.errstate(all="ignore"):
            result = _FUNCTIONS[node.operator](node, [np.asarray(value) for value in values])
            return np.asarray(result).reshape(shape)
    except (ValueError, IndexError, TypeError, KeyError, OverflowError, ZeroDivisionError):
        return None


def _make_function(ufunc: Callable[..., Any]) -> Callable[[Node, list[Values]], Any]:
    """Return the function of an operator that works element by element."""

    def compute(node: Node, values: list[Values]) -> Any:
        # A third argument of a numpy function of two arguments would be overwritten.
        result = reduce(ufunc, values[1:], values[0]) if len(values) > 1 else ufunc(values[0])
        keeps_type = result.dtype != np.bool_ and values[-1].dtype != np.bool_
        return result.astype(values[-1].dtype) if keeps_type else result

    return compute


def _divide(node: Node, values: list[Values]) -> Any:
    first, second = values
    if not np.issubdtype(first.dtype, np.integer):
        return first / second
    return np.trunc(first / second).astype(first.dtype)


def _find_remainder(node: Node, values: list[Values]) -> Any:
    return (np.fmod if node.attributes.get("fmod") else np.mod)(*values)


def _choose(node: Node, values: list[Values]) -> Any:
    return np.where(*values)


def _cast(node: Node, values: list[Values]) -> Any:
    return values[0].astype(VALUE_TYPES[node.attributes["to"]])


def _keep(node: Node, values: list[Values]) -> Any:
    return values[0]


def _gather(node: Node, values: list[Values]) -> Any:
    return np.take(values[0], values[1], axis=node.attributes.get("axis", 0))


def _concatenate(node: Node, values: list[Values]) -> Any:
    return np.concatenate(values, axis=node.attributes["axis"])


def _slice(node: Node, values: list[Values]) -> Any:
    starts, ends = (value.ravel().tolist() for value in values[1:3])
    axes = values[3].ravel().tolist() if len(values) > 3 else list(range(len(starts)))
    steps = values[4].ravel().tolist() if len(values) > 4 else [1] * len(starts)
    ranges = [slice(None)] * values[0].ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        ranges[axis] = slice(start, end, step)
    return values[0][tuple(ranges)]


def _make_reduction(reduction: Callable[..., Any]) -> Callable[[Node, list[Values]], Any]:
    """Return the function of an operator that combines all elements along axes."""

    def compute(node: Node, values: list[Values]) -> Any:
        axes = node.attributes.get("axes")
        if axes is None and len(values) > 1:
            axes = values[1].ravel().tolist()
        return reduction(values[0], axis=tuple(axes) if axes else None)

    return compute


_FUNCTIONS: dict[str, Callable[[Node, list[Values]], Any]] = {
    "Abs": _make_function(np.abs),
    "Add": _make_function(np.add),
    "And": _make_function(np.logical_and),
    "Cast": _cast,
    "Ceil": _make_function(np.ceil),
    "Concat": _concatenate,
    "Div": _divide,
    "Equal": _make_function(np.equal),
    "Floor": _make_function(np.floor),
    "Gather": _gather,
    "Greater": _make_function(np.greater),
    "GreaterOrEqual": _make_function(np.greater_equal),
    "Identity": _keep,
    "Less": _make_function(np.less),
    "LessOrEqual": _make_function(np.less_equal),
    "Max": _make_function(np.maximum),
    "Min": _make_function(np.minimum),
    "Mod": _find_remainder,
    "Mul": _make_function(np.multiply),
    "Neg": _make_function(np.negative),
    "Not": _make_function(np.logical_not),
    "Or": _make_function(np.logical_or),
    "ReduceMax": _make_reduction(np.max),
    "ReduceMin": _make_reduction(np.min),
    "ReduceSum": _make_reduction(np.sum),
    "Reshape": _keep,
    "Round": _make_function(np.round),
    "Slice": _slice,
    "Squeeze": _keep,
    "Sub": _make_function(np.subtract),
    "Unsqueeze": _keep,
    "Where": _choose,
}
"""Maps an operator to the function that computes it. The result is given its shape afterwards."""
