"""Defines what is read of files that state the size and the type of every tensor.

In other files, such as ONNX models, sizes follow from the operators
(`tinyvit.runtimes.network_analysis.inference_cost`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class StatedOperator:
    """An operator with the facts that its file states about its tensors.

    Attributes:
        name: Name of the operator in the language of the format.
        output: Name of its first output.
        max_rank: Largest number of dimensions of its inputs and outputs.
        has_floats: Whether its first input or an output contains floats; a constant input does
            not count.
        multiplications: Number of multiplications if it is a product, otherwise 0.
    """

    name: str
    output: str
    max_rank: int
    has_floats: bool
    multiplications: int


@dataclass(frozen=True)
class StatedNetwork:
    """The operators of a network.

    Attributes:
        operators: The operators, in the order of the file.
        is_quantized: Whether a tensor that the network computes contains quantized integers.
        has_open_sizes: Whether a size of an input, other than the number of images, is only known
            at run time.
    """

    operators: tuple[StatedOperator, ...]
    is_quantized: bool
    has_open_sizes: bool


@runtime_checkable
class StatesOperators(Protocol):
    """A format whose files state the sizes and types of all tensors."""

    def read_stated_network(self, path: Path) -> StatedNetwork:
        """Read the operators of a file.

        Args:
            path: Path of a file of this format.

        Returns:
            The operators.

        Raises:
            ArtifactError: If the file is damaged or hostile, or larger than a limit.
        """
        ...
