"""Creates the accuracy tables of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinyvit.bench.record import AccuracyResult, ClassAccuracy, ReferenceComparison
from tinyvit.bench.report.rows import Row
from tinyvit.bench.report.tables import Table

ACCURACY_TITLE = "Accuracy"
LOWEST_ACCURACY_TITLE = "Classes with the lowest accuracy"
LARGEST_LOSS_TITLE = "Classes with the largest loss of accuracy"
NO_LOSS = "no class lost accuracy"
"""What the table of losses says about an artifact none of whose classes lost accuracy."""
_MAX_CLASSES = 10
"""Maximum number of classes of an artifact in a table of classes."""


def make_accuracy_tables(rows: Sequence[Row]) -> list[Table]:
    """Create the accuracy tables; they have no rows if no accuracy was measured."""
    return [
        _make_accuracy_table(rows),
        _make_lowest_accuracy_table(rows),
        _make_largest_loss_table(rows),
    ]


def _make_accuracy_table(rows: Sequence[Row]) -> Table:
    header = (
        "artifact",
        "device",
        "images",
        "unreadable",
        "top-1 (95% interval)",
        "top-5 (95% interval)",
        "confidence error (expected calibration error, ECE)",
        "compared with",
        "agreement",
        "correct to wrong",
        "wrong to correct",
        "McNemar's p",
        "preprocessing",
    )
    cells = tuple(_make_accuracy_cells(row, row.accuracy) for row in rows if row.accuracy)
    return Table(ACCURACY_TITLE, header, cells)


def _make_accuracy_cells(row: Row, accuracy: AccuracyResult) -> tuple[str, ...]:
    (low1, high1), (low5, high5) = accuracy.top1_interval, accuracy.top5_interval
    has_unreadable_images = accuracy.classified_count != accuracy.total_count
    total = f" of {accuracy.total_count}" if has_unreadable_images else ""
    return (
        row.label,
        row.device.name,
        f"{accuracy.classified_count}{total}",
        str(accuracy.unreadable_count or ""),
        f"{accuracy.top1:.2f}% ({low1:.2f} to {high1:.2f})",
        f"{accuracy.top5:.2f}% ({low5:.2f} to {high5:.2f})",
        f"{accuracy.expected_calibration_error:.1f}%",
        *_make_reference_cells(accuracy.reference),
        accuracy.preprocess,
    )


def _make_reference_cells(
    reference: ReferenceComparison | None,
) -> tuple[str, str, str, str, str]:
    if reference is None:
        return ("",) * 5
    return (
        Path(reference.path).name,
        f"{reference.agreement:.2f}%",
        str(reference.worse),
        str(reference.better),
        f"{reference.p_value:.2g}",
    )


def _make_lowest_accuracy_table(rows: Sequence[Row]) -> Table:
    """Create the table of classes of results without a reference, which list the worst first."""
    header = ("artifact", "class", "WordNet id", "images", "top-1")
    cells = [
        (row.label, *_make_class_cells(result))
        for row in rows
        if row.accuracy and row.accuracy.reference is None
        for result in row.accuracy.classes[:_MAX_CLASSES]
    ]
    return Table(LOWEST_ACCURACY_TITLE, header, tuple(cells))


def _make_largest_loss_table(rows: Sequence[Row]) -> Table:
    """Create the table of classes of results with a reference, which list the largest loss first.

    Classes that lost nothing are left out.
    """
    header = ("artifact", "class", "WordNet id", "images", "top-1", "reference's top-1")
    cells = []
    for row in rows:
        if row.accuracy is None or row.accuracy.reference is None or not row.accuracy.classes:
            continue
        losses = [
            (row.label, *_make_class_cells(result), f"{result.reference_top1:.1f}%")
            for result in row.accuracy.classes
            if result.reference_top1 is not None and result.top1 < result.reference_top1
        ]
        cells += losses[:_MAX_CLASSES] or [(row.label, NO_LOSS, "", "", "", "")]
    return Table(LARGEST_LOSS_TITLE, header, tuple(cells))


def _make_class_cells(result: ClassAccuracy) -> tuple[str, str, str, str]:
    return result.label, result.wnid, str(result.image_count), f"{result.top1:.1f}%"
