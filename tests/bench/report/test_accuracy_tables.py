"""The tables of classes list those with the lowest accuracy, and those that lost accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.helpers.records import make_accuracy, make_accuracy_record
from tinyvit.bench.record import AccuracyResult, ClassAccuracy, ReferenceComparison
from tinyvit.bench.report.accuracy_tables import (
    LARGEST_LOSS_TITLE,
    LOWEST_ACCURACY_TITLE,
    NO_LOSS,
    make_accuracy_tables,
)
from tinyvit.bench.report.rows import make_rows

REFERENCE = ReferenceComparison("demo.onnx", 98.0, 12, 11, 0.9)


def make_result(
    path: str, classes: Sequence[tuple[str, float, float | None]], has_reference: bool
) -> AccuracyResult:
    accuracies = tuple(ClassAccuracy(name, "", 50, top1, before) for name, top1, before in classes)
    result = make_accuracy(path, 850, reference=REFERENCE if has_reference else None)
    return replace(result, classes=accuracies)


def make_class_rows(*results: AccuracyResult) -> dict[str, tuple[tuple[str, ...], ...]]:
    tables = make_accuracy_tables(make_rows([make_accuracy_record(*results)]))
    return {table.title: table.rows for table in tables}


def test_only_classes_that_lost_accuracy_are_losses() -> None:
    classes = [("cat", 60.0, 70.0), ("dog", 80.0, 80.0), ("fox", 90.0, 70.0)]
    rows = make_class_rows(make_result("a.int8.onnx", classes, has_reference=True))
    assert rows[LARGEST_LOSS_TITLE] == (("a.int8.onnx", "cat", "", "50", "60.0%", "70.0%"),)
    assert rows[LOWEST_ACCURACY_TITLE] == ()


def test_an_artifact_without_losses_is_named() -> None:
    classes = [("dog", 80.0, 80.0), ("fox", 90.0, 70.0)]
    rows = make_class_rows(make_result("a.ort", classes, has_reference=True))
    assert rows[LARGEST_LOSS_TITLE] == (("a.ort", NO_LOSS, "", "", "", ""),)


def test_without_a_reference_the_lowest_accuracies_are_listed() -> None:
    classes = [(f"class {i}", 50.0 + i, None) for i in range(12)]
    rows = make_class_rows(make_result("a.onnx", classes, has_reference=False))
    assert [row[1] for row in rows[LOWEST_ACCURACY_TITLE]] == [f"class {i}" for i in range(10)]
    assert rows[LOWEST_ACCURACY_TITLE][0] == ("a.onnx", "class 0", "", "50", "50.0%")
    assert rows[LARGEST_LOSS_TITLE] == ()
