"""Defines what is known about a tensor of a network, and functions for rules about sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy.typing as npt

from tinyvit.runtimes.formats.network_graph import Node

Shape: TypeAlias = "tuple[int, ...]"


class UnknownCostError(Exception):
    """The sizes of an operator's outputs are not known."""


@dataclass(frozen=True)
class Tensor:
    """Describes a tensor whose values may be unknown.

    Attributes:
        shape: Its sizes.
        element_bytes: Size of one element, in bytes.
        values: Its values if it is small and they are known.
        is_constant: Whether it does not depend on the image.
        depends_on_pixels: Whether it depends on the image's pixels, not only on its size.
    """

    shape: Shape
    element_bytes: int
    values: npt.NDArray[Any] | None = None
    is_constant: bool = False
    depends_on_pixels: bool = False


Inputs: TypeAlias = "Sequence[Tensor | None]"
Result: TypeAlias = "tuple[list[Shape], int]"
"""Sizes of the outputs, and number of multiplications."""

Rule: TypeAlias = "Callable[[Node, Inputs], Result]"


def get_shape(inputs: Inputs, index: int) -> Shape:
    """Return the sizes of an input.

    Args:
        inputs: Inputs of an operator.
        index: Which of them.

    Raises:
        UnknownCostError: If the input is left out.
    """
    tensor = inputs[index] if index < len(inputs) else None
    if tensor is None:
        raise UnknownCostError("an input is missing")
    return tensor.shape


def get_values(inputs: Inputs, index: int) -> list[Any] | None:
    """Return the values of an input as a list.

    Args:
        inputs: Inputs of an operator.
        index: Which of them.

    Returns:
        The values; None if the input is left out or has no elements.

    Raises:
        UnknownCostError: If the values are not known.
    """
    tensor = inputs[index] if index < len(inputs) else None
    if tensor is None or 0 in tensor.shape:
        return None
    if tensor.values is None:
        raise UnknownCostError("a size is not known")
    return list(tensor.values.ravel().tolist())


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """Return the common shape of tensors that are combined element by element.

    Args:
        shapes: Sizes of the tensors.
    """
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(0 if 0 in sizes else max(sizes) for sizes in zip(*padded))
