"""The text of a coverage."""

from __future__ import annotations

from typing import Any

import pytest

from tinyvit.runtimes.network_analysis.accelerator_rules import FLOATS
from tinyvit.runtimes.network_analysis.coverage_result import Coverage, RefusedOperator

ERF = RefusedOperator("Erf", "e", "NPUs do not have this operator")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((3, (), 0.0), "accelerators accept all 3 operators"),
        ((3, (ERF,), None), "accelerators refuse 1 of 3 operators"),
        (
            (3, (ERF,), 0.5),
            "accelerators refuse 1 of 3 operators, with 50.0% of the multiplications",
        ),
        ((None, (ERF,), None), "accelerators refuse 1 operator of those that are known"),
        ((None, (), 0.0, "compiler"), "the compiler left no operator to the CPU"),
        (
            (None, (ERF,), 0.5, "compiler"),
            "the compiler left 1 operator to the CPU, with 50.0% of the multiplications",
        ),
    ],
)
def test_the_summary(arguments: tuple[Any, ...], line: str) -> None:
    assert Coverage(*arguments).describe()[0] == f"coverage: {line}"


def test_reasons_are_counted_and_notes_follow() -> None:
    floats = RefusedOperator("Add", "a", FLOATS)
    lines = Coverage(4, (ERF, floats, ERF), None, notes=("a note",)).describe()
    assert lines[1:4] == [f"  1 Add: {FLOATS}", f"  2 Erf: {ERF.reason}", "  a note"]
    assert "computes only in integers" in lines[4]
