"""Defines `NetworkGraph`: the operators of a network, without its large constants.

`tinyvit.runtimes.network_analysis.inference_cost` computes from it how much memory and time the
network needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_KNOWN_VALUES = 64
"""Largest number of elements of a constant whose values are read. Larger ones are weights; the
shapes, axes and paddings that are constants in a file have a few numbers."""

MAX_RANK = 64
"""Largest number of dimensions of a tensor. numpy has the same limit, and engines have lower ones.
"""

_ELEMENT_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 8: 16, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8}
_ELEMENT_BYTES |= {14: 8, 15: 16, 16: 2}
"""Maps ONNX's number of an element type to the size of one element in bytes. The types above 16
(float8, int4 and so on) take 1 byte or less."""

VALUE_TYPES = {1: "<f4", 6: "<i4", 7: "<i8", 9: "?", 11: "<f8"}
"""Maps ONNX's number of an element type to numpy's type, for constants whose values are read."""


@dataclass(frozen=True)
class Constant:
    """A constant tensor.

    Attributes:
        shape: Its sizes.
        element_bytes: Size of one element, in bytes.
        values: Its values if there are at most `MAX_KNOWN_VALUES`; None if they were not read.
    """

    shape: tuple[int, ...]
    element_bytes: int
    values: npt.NDArray[Any] | None = None


@dataclass(frozen=True)
class Node:
    """An operator with its inputs and outputs.

    Attributes:
        operator: Name of the operator, such as "Conv".
        domain: The library of operators that it belongs to; "" for ONNX itself.
        inputs: Names of the inputs; "" for an optional one that is left out.
        outputs: Names of the outputs; "" for one that is not computed.
        attributes: Name of each attribute -> an int, float, bytes, list of ints or floats, or a
            Constant. Attributes of other types are left out.
    """

    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass
class NetworkGraph:
    """The operators of a network.

    Attributes:
        inputs: Name of each input -> its sizes; None for one that the caller chooses. Constants may
            be among them.
        constants: Name of each constant -> the constant.
        nodes: The operators, in any order.
        external_files: Names of the files that contain constants, as the network states them.
        foreign_operators: Names of the operators that image classifiers do not need, such as
            loops. The name is preceded by the domain and "::" if the domain is not that of ONNX
            itself. Functions that the file defines are called "a function".
    """

    inputs: dict[str, tuple[int | None, ...]] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    external_files: set[str] = field(default_factory=set)
    foreign_operators: set[str] = field(default_factory=set)

    def add_node(self, node: Node, foreign_name: str) -> None:
        """Add an operator.

        Args:
            node: The operator.
            foreign_name: Its name among `foreign_operators`; "" if image classifiers need it.
        """
        self.nodes.append(node)
        if foreign_name:
            self.foreign_operators.add(foreign_name)


def check_rank(shape: Sequence[object]) -> None:
    """Raise ValueError if a tensor has more than `MAX_RANK` dimensions."""
    if len(shape) > MAX_RANK:
        raise ValueError(f"a tensor has {len(shape)} dimensions, more than {MAX_RANK}")


def make_constant(shape: tuple[int, ...], element_type: int, raw_data: bytes | None) -> Constant:
    """Make a constant from its little-endian data.

    Args:
        shape: Its sizes.
        element_type: ONNX's number of the element type.
        raw_data: The data if the constant is small; None if its values are not needed.

    Raises:
        ValueError: If a size is negative, if there are more than 64, or if the data has another
            size.
    """
    check_rank(shape)
    if any(size < 0 for size in shape):
        raise ValueError("a constant has a negative size")
    values = None
    if raw_data is not None and element_type in VALUE_TYPES:
        values = np.frombuffer(raw_data, VALUE_TYPES[element_type]).reshape(shape)
    return Constant(shape, _ELEMENT_BYTES.get(element_type, 1), values)
