"""Counts the multiply-accumulates of an ONNX graph."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

PRODUCT_OPERATORS = ("Conv", "Gemm", "MatMul")
"""Operators that compute multiply-accumulates: convolutions, linear layers and matrix products."""


def count_product_macs(model: ir.Model) -> dict[str, int]:
    """Count the multiply-accumulates of every convolution, linear layer and matrix product.

    Args:
        model: A model with inferred shapes.

    Returns:
        Name of the node -> multiply-accumulates for one image.
    """
    macs = {}
    for node in model.graph:
        if node.op_type in PRODUCT_OPERATORS:
            left, right = (_read_sizes(value) for value in node.inputs[:2])
            # Number of products that are summed for each output value.
            summed_products = prod(right[1:]) if node.op_type == "Conv" else left[-1]
            assert node.name is not None
            macs[node.name] = prod(_read_sizes(node.outputs[0])) * summed_products
    return macs


def _read_sizes(value: ir.Value | None) -> list[int]:
    """Return the sizes of a value's axes for one image."""
    assert value is not None
    assert value.shape is not None
    return [
        size if isinstance(size, int) else _size_for_one_image(str(size)) for size in value.shape
    ]


def _size_for_one_image(size: str) -> int:
    """Convert a multiple of a dynamic batch, as torch writes it: "784*s40" -> 784."""
    return prod(int(factor) for factor in size.split("*") if factor.strip().isdecimal())
