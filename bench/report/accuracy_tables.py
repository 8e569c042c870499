"""Creates the accuracy tables of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinyvit.bench.record import AccuracyResult, ReferenceComparison
from tinyvit.bench.report.rows import Row
from tinyvit.bench.report.tables import Table

ACCURACY_TITLE = "Accuracy"
_MAX_CLASSES = 10
"""Maximum number of classes of an artifact in the table of classes. A result lists the classes with
the lowest accuracy, or the largest loss of accuracy, first."""


def make_accuracy_tables(rows: Sequence[Row]) -> list[Table]:
    """Create the accuracy tables; they have no rows if no accuracy was measured."""
    return [_make_accuracy_table(rows), _make_class_table(rows)]


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


def _make_class_table(rows: Sequence[Row]) -> Table:
    header = ("artifact", "class", "WordNet id", "images", "top-1", "reference's top-1")
    cells = []
    for row in rows:
        classes = row.accuracy.classes if row.accuracy else ()
        for class_accuracy in classes[:_MAX_CLASSES]:
            reference_top1 = class_accuracy.reference_top1
            cells.append(
                (
                    row.label,
                    class_accuracy.label,
                    class_accuracy.wnid,
                    str(class_accuracy.image_count),
                    f"{class_accuracy.top1:.1f}%",
                    "" if reference_top1 is None else f"{reference_top1:.1f}%",
                )
            )
    return Table("Classes with the lowest accuracy or the largest loss", header, tuple(cells))
