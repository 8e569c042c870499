"""States which operators of a compiled file stay on the CPU, as its compiler recorded it."""

from __future__ import annotations

from tinyvit.manifest_parts import Compilation
from tinyvit.runtimes.network_analysis.coverage_result import Coverage, RefusedOperator
from tinyvit.runtimes.network_analysis.npu_operators import parse_operators

_REASON = "the compiler left it to the CPU"


def describe_compilation(compilation: Compilation) -> Coverage:
    """State what a compiler for an NPU decided.

    Args:
        compilation: What the manifest of the file records about the compilation.

    Returns:
        The operators that stay on the CPU, without those that convert the input and the output.

    Raises:
        ArtifactError: The manifest does not state the operators in the form that tinyvit-export
            writes.
    """
    refused = tuple(
        RefusedOperator(name, "", _REASON)
        for name, count in parse_operators(compilation.cpu_operators).items()
        for _ in range(count)
    )
    return Coverage(
        operator_count=None,
        refused=refused,
        refused_share=compilation.cpu_mac_fraction,
        decided_by="compiler",
        notes=(
            f"decided by {compilation.compiler} for"
            f" {compilation.chip or compilation.checked_chip}, as the manifest states; what"
            " converts the input and the output is not counted",
        ),
    )


def describe_outcome(compilation: Compilation) -> str:
    """Describe what a compiler decided for a file that is compiled again on the device.

    Args:
        compilation: What the manifest of the file records about the compilation.
    """
    operators = compilation.cpu_operators or "no operator"
    return (
        f"{compilation.compiler} for {compilation.chip or compilation.checked_chip} left"
        f" {operators} to the CPU, as the manifest states"
    )


def describe_placement(rule: str) -> Coverage:
    """State that a compiler leaves nothing to the CPU.

    Args:
        rule: Why, as a sentence without a period.

    Returns:
        A coverage without refused operators.
    """
    return Coverage(
        operator_count=None, refused=(), refused_share=0.0, decided_by="compiler", notes=(rule,)
    )
