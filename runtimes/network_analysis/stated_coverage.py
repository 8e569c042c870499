"""Finds the operators that accelerators refuse in files that state the sizes of all tensors."""

from __future__ import annotations

from tinyvit.runtimes.formats.stated_operators import StatedNetwork, StatedOperator
from tinyvit.runtimes.network_analysis.accelerator_rules import (
    COMMON_OPERATORS,
    CONVERSIONS,
    explain_refusal,
)
from tinyvit.runtimes.network_analysis.coverage_result import Coverage, RefusedOperator


def check_stated(network: StatedNetwork) -> Coverage:
    """Check a network whose file states the sizes and types of all tensors.

    Args:
        network: The operators of the file.

    Returns:
        The operators that accelerators refuse.
    """
    reasons = [(operator, _find_reason(operator, network)) for operator in network.operators]
    refused = [(operator, reason) for operator, reason in reasons if reason]
    return Coverage(
        operator_count=None if network.has_unread_parts else len(network.operators),
        refused=tuple(
            RefusedOperator(operator.name, operator.output, reason) for operator, reason in refused
        ),
        refused_share=_compute_share([operator for operator, _reason in refused], network),
        delegate_calls=network.delegate_calls,
        notes=tuple(_describe_delegates(network)),
    )


def _find_reason(operator: StatedOperator, network: StatedNetwork) -> str:
    """Return why an operator is refused, as a clause; "" if it is accepted."""
    return operator.refusal or explain_refusal(
        operator.name in COMMON_OPERATORS[network.language],
        network.has_open_sizes,
        operator.max_rank,
        network.is_quantized and operator.has_floats and operator.name not in CONVERSIONS,
    )


def _compute_share(refused: list[StatedOperator], network: StatedNetwork) -> float | None:
    """Return the share of the multiplications that are refused; None if sizes are unknown."""
    total = refused_total = 0
    if network.has_unread_parts:
        return None
    for operator in network.operators:
        if operator.multiplications is None:
            return None
        total += operator.multiplications
    for operator in refused:
        refused_total += operator.multiplications or 0
    return refused_total / max(1, total)


def _describe_delegates(network: StatedNetwork) -> list[str]:
    """Return a note about the delegates that the network calls."""
    if not network.delegate_calls:
        return []
    calls = ", ".join(f"{count} of {name}" for name, count in network.delegate_calls.items())
    outside = sum(bool(operator.refusal) for operator in network.operators)
    notes = [f"delegate calls: {calls}; operators outside of them: {outside}"]
    if network.has_unread_parts:
        notes.append("some of these delegates run compiled parts, whose operators are not read")
    return notes
