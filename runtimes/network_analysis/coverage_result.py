"""Defines the result of a check of which operators accelerators refuse, and its text."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from tinyvit.runtimes.network_analysis.accelerator_rules import FLOATS
from tinyvit.text.plurals import format_count

_FLOATS_REMARK = (
    "  a layer of an int8 file may take integers and return floats: an NPU that also computes in"
    " float16 accepts this; an NPU that computes only in integers needs every tensor in integers,"
    " as in the files of --target qnn and --target rknn"
)


@dataclass(frozen=True)
class RefusedOperator:
    """An operator that accelerators refuse.

    Attributes:
        operator: Name of the operator, in the language of the file.
        output: Name of its first output; "" if it is not known.
        reason: Why it is refused, as a clause.
    """

    operator: str
    output: str
    reason: str


@dataclass(frozen=True)
class Coverage:
    """Which operators of a file accelerators refuse.

    Attributes:
        operator_count: Number of operators in the file; None if they are not all known.
        refused: The operators that accelerators refuse.
        refused_share: Their multiplications as a share of those of all operators, 0 to 1; None if
            sizes are unknown.
        decided_by: What decided: "rules" that most accelerators share, or the "compiler" that made
            the file.
        delegate_calls: For a .pte file, name of a delegate (a library that runs a part of the
            network) -> how often it is called.
        notes: What else the reader should know, one sentence or clause each.
    """

    operator_count: int | None
    refused: tuple[RefusedOperator, ...]
    refused_share: float | None
    decided_by: Literal["rules", "compiler"] = "rules"
    delegate_calls: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def describe(self) -> list[str]:
        """Return the lines of a text: a summary, one line for each reason, and the notes."""
        counts = Counter((item.operator, item.reason) for item in self.refused)
        return [
            f"coverage: {self._summarize()}",
            *(f"  {count} {name}: {reason}" for (name, reason), count in sorted(counts.items())),
            *(f"  {note}" for note in self.notes),
            *([_FLOATS_REMARK] if any(item.reason == FLOATS for item in self.refused) else []),
        ]

    def _summarize(self) -> str:
        """Return how many operators are refused, as a clause."""
        count = len(self.refused)
        operators = format_count(count, "operator")
        if self.decided_by == "compiler":
            if not count:
                return "the compiler left no operator to the CPU"
            return f"the compiler left {operators} to the CPU{self._describe_share()}"
        if self.operator_count is None:
            return f"accelerators refuse {operators} of those that are known"
        if not count:
            return f"accelerators accept all {self.operator_count} operators"
        return (
            f"accelerators refuse {count} of {self.operator_count} operators"
            f"{self._describe_share()}"
        )

    def _describe_share(self) -> str:
        if self.refused_share is None:
            return ""
        return f", with {self.refused_share:.1%} of the multiplications"
