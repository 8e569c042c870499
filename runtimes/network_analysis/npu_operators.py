"""Describes the operators of a network that a compiler for an NPU leaves to the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tinyvit.errors import ArtifactError

_MAX_OPERATORS = 10_000
"""Largest number of operators that a text may state."""
_MAX_DIGITS = len(str(_MAX_OPERATORS))

_NO_LIST = (
    "the manifest does not state the operators on the CPU as tinyvit-export writes them",
    "the file was changed: export it again",
)
"""Cause and remedy of an error."""


def describe_operators(operators: Mapping[str, str]) -> str:
    """Count operators by name, such as "2 Gemm, 1 Softmax".

    Args:
        operators: Any name -> the operator.
    """
    counts = Counter(operators.values())
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def parse_operators(text: str) -> dict[str, int]:
    """Read a text that `describe_operators` made.

    Args:
        text: The text, such as "2 Gemm, 1 Softmax", from a manifest.

    Returns:
        Name of an operator -> how many there are.

    Raises:
        ArtifactError: The text has another form, or states too many operators.
    """
    counts: dict[str, int] = {}
    for part in text.split(", ") if text else ():
        number, _, name = part.partition(" ")
        is_number = (
            number.isascii() and number.isdecimal() and len(number) < len(str(_MAX_OPERATORS))
        )
        if not is_number or not name:
            raise ArtifactError(*_NO_LIST)
        counts[name] = counts.get(name, 0) + int(number)
    if sum(counts.values()) > _MAX_OPERATORS:
        raise ArtifactError(*_NO_LIST)
    return counts
