"""Small helpers that the passes on OpenVINO's graph share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import openvino


def is_constant(value: openvino.Output) -> bool:
    """Tell whether a value is a constant.

    Args:
        value: An output of a node.

    Returns:
        True if the node is a Constant.
    """
    return bool(value.get_node().get_type_name() == "Constant")


def make_shared_constants() -> Callable[..., openvino.Node]:
    """Make a function that returns one constant for all equal shapes and axis orders.

    Each constant takes 200 bytes of the .xml file.

    Returns:
        A function that takes integers and returns a Constant, int64 (number of integers,).
    """
    import openvino.opset13 as ops

    return cache(lambda *values: ops.constant(np.array(values)))
