"""The page of a report folds long tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("matplotlib", reason="charts need tinyvit-edge[bench]")

from tests.helpers.records import make_accuracy, make_accuracy_record
from tinyvit.bench.record import ClassAccuracy
from tinyvit.bench.report.page import format_page
from tinyvit.bench.report.rows import make_rows


def format_accuracy_page(artifact_count: int) -> str:
    """Format the page of results with ten classes each."""
    classes = tuple(ClassAccuracy(f"class {i}", "", 50, 60.0) for i in range(10))
    results = [
        replace(make_accuracy(f"{i}.onnx", 850), classes=classes) for i in range(artifact_count)
    ]
    records = [make_accuracy_record(*results)]
    return format_page(records, make_rows(records), "Report")


def test_a_table_of_more_than_20_rows_is_folded() -> None:
    page = format_accuracy_page(3)
    folded = page.partition("<details><summary>30 rows</summary>")[2].partition("</details>")[0]
    assert folded.count("<tr>") == 31
    assert "class 9" in folded
    assert page.count("<details>") == 1


def test_a_table_of_20_rows_and_a_long_summary_are_open() -> None:
    assert "<details>" not in format_accuracy_page(2)
    summary = format_accuracy_page(21).partition("<h2>Summary</h2>\n")[2]
    assert summary.startswith('<div class="wide">')
