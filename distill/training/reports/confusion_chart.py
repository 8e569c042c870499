"""Draws a confusion matrix as a chart whose colors are shares of the images of each class."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.distill.training.reports.class_names import make_drawable_names
from tinyvit.distill.training.reports.confusion_matrix import (
    OTHER_CLASSES,
    ConfusionMatrix,
    ConfusionTable,
)
from tinyvit.errors import MissingDependencyError
from tinyvit.labels import Label
from tinyvit.text.plurals import format_count

_MAX_COMPLETE_CLASSES = 60
"""Largest number of classes of which all are drawn."""
_MOST_CONFUSED_CLASSES = 30
"""Number of classes that are drawn if there are more than `_MAX_COMPLETE_CLASSES`."""
_MAX_CLASSES_WITH_NUMBERS = 31
"""Largest number of rows with numbers in their cells; the cells of larger charts are too small."""
_MAX_NAME_LENGTH = 24
_LARGE_CELL_INCHES, _SMALL_CELL_INCHES = 0.36, 0.16
_MIN_CHART_INCHES = 2.2
_MARGIN_INCHES = 2.2
"""Space for the names of the classes, the titles and the scale of the colors."""
_LIGHT_TEXT_SHARE = 33
"""Cells with at least this percentage are dark, so their numbers are white."""
_COLOR_EXPONENT = 0.5
"""Power of the shares that the colors show. With 1, rare confusions would be nearly white."""


def draw_confusion_matrix(matrix: ConfusionMatrix, labels: Sequence[Label]) -> bytes:
    """Draw a confusion matrix.

    All classes that occur are drawn, or the most confused ones if there are more than 60.

    Args:
        matrix: The matrix.
        labels: The labels of all classes of the network.

    Returns:
        The bytes of a PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.colors import PowerNorm
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError.for_package("matplotlib", extra="train") from error
    table = matrix.make_table(_MAX_COMPLETE_CLASSES)
    if table.has_other_classes:
        table = matrix.make_table(_MOST_CONFUSED_CLASSES)
    size = len(table.counts)
    has_numbers = size <= _MAX_CLASSES_WITH_NUMBERS
    cell_inches = _LARGE_CELL_INCHES if has_numbers else _SMALL_CELL_INCHES
    side_inches = max(_MIN_CHART_INCHES, size * cell_inches) + _MARGIN_INCHES
    figure = Figure(figsize=(side_inches, side_inches), layout="constrained")
    axes = figure.subplots()
    shares = _compute_shares(table)
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(_COLOR_EXPONENT, 0, 100))
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30)
    bar.set_label("images of the correct class (%)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    _label_axes(axes, table, labels, font_size=8 if has_numbers else 6)
    axes.set_title(_make_title(matrix, table), fontsize=9)
    if has_numbers:
        _write_numbers(axes, table, shares)
    png = io.BytesIO()
    figure.savefig(png, dpi=150, bbox_inches="tight")
    return png.getvalue()


def _compute_shares(table: ConfusionTable) -> npt.NDArray[np.float64]:
    """Return the percentage of the images of each correct class; NaN where there is no image.

    The cell for other classes that were taken for other classes is NaN too, because it says nothing
    about confusions: it also counts correct predictions.
    """
    counts = table.counts.astype(np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.full_like(counts, np.nan)
    np.divide(100 * counts, totals, out=shares, where=totals > 0)
    if table.has_other_classes:
        shares[-1, -1] = np.nan
    return shares


def _label_axes(axes: Any, table: ConfusionTable, labels: Sequence[Label], font_size: int) -> None:
    """Write the names of the classes beside the rows and below the columns."""
    all_names = make_drawable_names(labels, _MAX_NAME_LENGTH)
    names = [all_names[index] for index in table.classes]
    if table.has_other_classes:
        names.append(OTHER_CLASSES)
    positions = range(len(names))
    # Names are text, not formulas between "$".
    axes.set_xticks(positions, names, rotation=90, fontsize=font_size, parse_math=False)
    axes.set_yticks(positions, names, fontsize=font_size, parse_math=False)
    axes.set_xlabel("predicted class", fontsize=9)
    axes.set_ylabel("correct class", fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_color("0.8")


def _make_title(matrix: ConfusionMatrix, table: ConfusionTable) -> str:
    """Return the accuracy, and which classes the chart shows if it does not show all."""
    is_correct = matrix.pairs[:, 0] == matrix.pairs[:, 1]
    correct_count, image_count = int(matrix.counts[is_correct].sum()), int(matrix.counts.sum())
    title = (
        f"{correct_count} of {format_count(image_count, 'image')} correct "
        f"({100 * correct_count / image_count:.1f}%)"
    )
    if table.has_other_classes:
        title += f"\nthe {len(table.classes)} most confused of {table.class_count} classes"
    return title


def _write_numbers(axes: Any, table: ConfusionTable, shares: npt.NDArray[np.float64]) -> None:
    """Write the number of images into each cell that has any."""
    for row, column in np.argwhere((table.counts > 0) & np.isfinite(shares)):
        is_dark = shares[row, column] >= _LIGHT_TEXT_SHARE
        axes.text(
            column,
            row,
            str(table.counts[row, column]),
            ha="center",
            va="center",
            fontsize=7,
            color="white" if is_dark else "black",
        )
