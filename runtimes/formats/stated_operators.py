"""Defines what is read of files that state the size and the type of every tensor.

In other files, such as ONNX models, sizes follow from the operators
(`tinyvit.runtimes.network_analysis.inference_cost`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
            not count. Without a meaning if the network is not quantized.
        multiplications: Number of multiplications if it is a product, otherwise 0; None if a size
            that determines it is only known at run time.
        refusal: Why no accelerator runs the operator, as a clause, if the file itself states that;
            otherwise "".
    """

    name: str
    output: str
    max_rank: int
    has_floats: bool
    multiplications: int | None
    refusal: str = ""


@dataclass(frozen=True)
class StatedNetwork:
    """The operators of a network.

    Attributes:
        language: The set of operators to which their names belong, a key of
            `accelerator_rules.COMMON_OPERATORS`.
        operators: The operators, in the order of the file.
        is_quantized: Whether a tensor that the network computes contains quantized integers.
        has_open_sizes: Whether a size of an input, other than the number of images, is only known
            at run time.
        delegate_calls: Name of a delegate -> how often the network calls it. A delegate is a
            library that runs a part of the network.
        has_unread_parts: Whether there are parts for delegates whose operators were not read.
    """

    language: str
    operators: tuple[StatedOperator, ...]
    is_quantized: bool
    has_open_sizes: bool
    delegate_calls: dict[str, int] = field(default_factory=dict)
    has_unread_parts: bool = False


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


@runtime_checkable
class StatesPlacement(Protocol):
    """A format of compiled files whose compiler may place every operator on the accelerator.

    Attributes:
        placement_rule: Why no operator of a compiled file stays on the CPU, as a sentence without a
            period; "" if the compiler may leave operators to the CPU.
    """

    placement_rule: str


def find_depth(first: Sequence[int], result: Sequence[int]) -> int:
    """Find how many products are added for each element of a product of matrices.

    Formats state in different ways whether a matrix is transposed; the sizes show it.

    Args:
        first: Sizes of the first matrix.
        result: Sizes of the product.

    Returns:
        The size of the first matrix that is not one of the result; 0 for a number.
    """
    if len(first) < 2 or len(result) < 2 or first[-2] == result[-2]:
        return first[-1] if first else 0
    return first[-2]
