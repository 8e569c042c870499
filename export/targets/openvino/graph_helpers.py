"""Helpers that the passes on OpenVINO's graph share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import openvino


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

    The function that is made returns the same node for the same integers, because each node takes
    200 bytes in the .xml file.

    Returns:
        A function that takes integers and returns a Constant node, int64 (number of integers,).
    """
    import openvino.opset13 as ops

    return cache(lambda *values: ops.constant(np.array(values)))
