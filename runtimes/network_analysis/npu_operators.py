"""Describes the operators of a network that a compiler for an NPU leaves to the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


def describe_operators(operators: Mapping[str, str]) -> str:
    """Count operators by name, such as "2 Gemm, 1 Softmax".

    Args:
        operators: Any name -> the operator.
    """
    counts = Counter(operators.values())
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
