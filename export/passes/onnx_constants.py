"""Adds constants to an ONNX graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

if TYPE_CHECKING:
    import onnx_ir as ir


def add_constant(model: ir.Model, name: str, array: npt.NDArray[Any]) -> ir.Value:
    """Add an initializer to a graph.

    Args:
        model: The model to change in place.
        name: Name of the initializer, which no other value of the graph has.
        array: The numbers.

    Returns:
        The initializer.
    """
    import onnx_ir as ir

    tensor = ir.tensor(array, name=name)
    value = ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    model.graph.register_initializer(value)
    return value
