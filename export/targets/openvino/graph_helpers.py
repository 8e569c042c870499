"""Helpers that the passes on OpenVINO's graph share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import openvino

Node: TypeAlias = Any
"""An `openvino.Node`. The type is Any, because OpenVINO's operation sets have no type hints."""


def is_constant(value: openvino.Output) -> bool:
    """Return whether a value is a constant.

    Args:
        value: An output of a node.

    Returns:
        True if the node is a Constant.
    """
    return bool(value.get_node().get_type_name() == "Constant")


def make_constant_factory() -> Callable[..., openvino.Node]:
    """Make a function that creates int64 constants, such as shapes and axis orders.

    Unlike `make_int64`, the function returns the same node for the same integers, because each node
    takes 200 bytes in the .xml file.

    Returns:
        A function that takes integers and returns a Constant node, int64 (number of integers,).
    """
    return cache(make_int64)


def make_int64(*values: int) -> Node:
    """Make an int64 constant.

    Args:
        values: The integers.

    Returns:
        A new Constant node, int64 (number of integers,).
    """
    from openvino import opset11 as ops

    return ops.constant(np.array(values, np.int64))


def make_float32(values: npt.ArrayLike) -> Node:
    """Make a float32 constant.

    Args:
        values: A number, or numbers in nested sequences or an array.

    Returns:
        A new Constant node, float32 in the shape of `values`.
    """
    from openvino import opset11 as ops

    return ops.constant(np.array(values, np.float32))
