"""Draws the charts of a report as SVG, with matplotlib, which the extra "bench" installs.

matplotlib draws with placeholder colors, which are then replaced by CSS variables of the page, so
that the same SVG works in light mode, dark mode and print. Text stays text in the SVG and is not
converted to outlines.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyvit.bench.record import AccuracyResult, LatencyResult
from tinyvit.bench.report.rows import Row, find_pareto_front
from tinyvit.errors import MissingDependencyError
from tinyvit.processes.output_capture import quiet_loggers
from tinyvit.text.safe_text import escape_text

INK, _FAINT, STRONG, PALE = "#010203", "#040506", "#070809", "#0a0b0c"
"""Placeholder colors of text, of lines, of bars and emphasized points, and of other points."""
_STAGE_COLORS = ("#0d0e0f", "#101112", "#131415", "#161718")
"""Placeholder colors of the stages of a query, in their order."""
_VARIABLES = {INK: "--ink", _FAINT: "--faint", STRONG: "--strong", PALE: "--pale"} | {
    color: f"--stage{i}" for i, color in enumerate(_STAGE_COLORS)
}
"""Placeholder color -> the CSS variable (defined in page.css) that replaces it."""
_LABEL_OFFSETS_PT = (6, -15, 20, -29)
"""Vertical distances of labels from their points, used in turn so that the labels of neighboring
points do not overlap."""
_LABEL_SPACE_PT = 6
"""Horizontal distance of labels from their points."""
BAR_HEIGHT = 0.55
"""Height of a bar as a fraction of the distance between bars."""
_WIDTH_IN = 6.0
_PARETO_HEIGHT_IN = 4.2
ROW_HEIGHT_IN = 0.42
AXIS_HEIGHT_IN = 0.9
_LEGEND_HEIGHT_IN = 0.4
_FONT_PT = 9
_MAX_NAME_CHARACTERS = 40
"""Number of characters to which names are shortened, so that they leave space for the chart."""


@dataclass(frozen=True)
class _Point:
    """A point of the Pareto chart."""

    label: str
    median_ms: float
    accuracy: AccuracyResult


def draw_pareto_chart(rows: Sequence[Row]) -> str:
    """Draw top-1 accuracy against median latency, with the Pareto front emphasized.

    Returns:
        An SVG element; "" if fewer than two rows have both a latency and an accuracy.
    """
    points = [
        _Point(make_label(row.label), row.latency.median_ms, row.accuracy)
        for row in rows
        if row.latency and row.accuracy
    ]
    if len(points) < 2:
        return ""
    points.sort(key=lambda point: point.median_ms)
    front = find_pareto_front([(point.median_ms, point.accuracy.top1) for point in points])
    with open_figure(_PARETO_HEIGHT_IN) as (figure, axes):
        front_ms = [points[i].median_ms for i in front]
        front_top1 = [points[i].accuracy.top1 for i in front]
        axes.step(front_ms, front_top1, where="post", color=_FAINT, linewidth=1.2, zorder=1)
        for i, point in enumerate(points):
            _draw_point(axes, point, STRONG if i in front else PALE)
            axes.annotate(
                point.label,
                (point.median_ms, point.accuracy.top1),
                (_LABEL_SPACE_PT, _LABEL_OFFSETS_PT[i % len(_LABEL_OFFSETS_PT)]),
                textcoords="offset points",
                color=INK,
                fontsize=_FONT_PT,
            )
        axes.set_xlabel("median latency, ms (lower is better)")
        axes.set_ylabel("top-1 accuracy, % (with 95% interval)")
        axes.margins(y=0.15)
        # The additional space on the right is for the label of the slowest point.
        axes.set_xlim(points[0].median_ms * 0.85, points[-1].median_ms * 1.25)
        texts = [
            f"{point.label} {point.median_ms:.2f} ms, {point.accuracy.top1:.2f}%"
            for point in points
        ]
        return export_svg(figure, "Accuracy against latency", texts)


def draw_latency_chart(rows: Sequence[Row]) -> str:
    """Draw the median latency of each row, and a line from the 10th to the 90th percentile.

    Returns:
        An SVG element; "" if no row has a latency.
    """
    labeled_latencies = _select_latencies(rows)
    if not labeled_latencies:
        return ""
    with open_figure(AXIS_HEIGHT_IN + ROW_HEIGHT_IN * len(labeled_latencies)) as (figure, axes):
        for y, (_, latency) in enumerate(labeled_latencies):
            samples = [ms for turn in latency.turns_ms for ms in turn] or [latency.median_ms]
            low, high = np.quantile(samples, (0.1, 0.9))
            axes.barh(y, latency.median_ms, height=BAR_HEIGHT, color=STRONG)
            axes.plot([low, high], [y, y], color=INK, linewidth=1.2)
            draw_text(axes, max(high, latency.median_ms), y, f"{latency.median_ms:.2f}")
        caption = "median ms; the line spans the 10th to the 90th percentile"
        label_rows(axes, [label for label, _ in labeled_latencies], caption)
        texts = [f"{label} {latency.median_ms:.2f} ms" for label, latency in labeled_latencies]
        return export_svg(figure, "Latency", texts)


def draw_stage_chart(rows: Sequence[Row]) -> str:
    """Draw the median time of each end-to-end stage (decode, resize, network, top-k).

    Returns:
        An SVG element; "" if no row has stage times.
    """
    labeled_stages = [
        (label, latency.stages_ms)
        for label, latency in _select_latencies(rows)
        if latency.stages_ms
    ]
    if not labeled_stages:
        return ""
    stage_names = list(dict.fromkeys(name for _, stages_ms in labeled_stages for name in stages_ms))
    height_in = AXIS_HEIGHT_IN + _LEGEND_HEIGHT_IN + ROW_HEIGHT_IN * len(labeled_stages)
    with open_figure(height_in) as (figure, axes):
        for y, (_, stages_ms) in enumerate(labeled_stages):
            start_ms = 0.0
            for i, name in enumerate(stage_names):
                stage_ms = stages_ms.get(name, 0.0)
                color = _STAGE_COLORS[i % len(_STAGE_COLORS)]
                # The legend has one entry per stage, not one per bar.
                legend_entry = make_label(name) if y == 0 else None
                axes.barh(
                    y,
                    stage_ms,
                    left=start_ms,
                    height=BAR_HEIGHT,
                    color=color,
                    label=legend_entry,
                )
                start_ms += stage_ms
        label_rows(axes, [label for label, _ in labeled_stages], "median ms of each stage")
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=len(stage_names),
            frameon=False,
            labelcolor=INK,
            fontsize=_FONT_PT,
        )
        texts = []
        for row_label, stages_ms in labeled_stages:
            times = ", ".join(f"{name} {ms:.2f} ms" for name, ms in stages_ms.items())
            texts.append(f"{row_label} {times}")
        return export_svg(figure, "Stages", texts)


def draw_accuracy_chart(rows: Sequence[Row]) -> str:
    """Draw the top-1 accuracy of each artifact, engine and preprocessing, with its interval.

    Returns:
        An SVG element; "" if no row has an accuracy.
    """
    # Several rows may show the same accuracy, such as those of different thread counts.
    accuracies_by_key: dict[tuple[str, str, str], tuple[str, AccuracyResult]] = {}
    for row in rows:
        if row.accuracy:
            key = (row.artifact.sha256, row.engine, row.accuracy.preprocess)
            accuracies_by_key[key] = (make_label(row.label), row.accuracy)
    if not accuracies_by_key:
        return ""
    labeled_accuracies = list(accuracies_by_key.values())
    with open_figure(AXIS_HEIGHT_IN + ROW_HEIGHT_IN * len(labeled_accuracies)) as (figure, axes):
        for y, (_, accuracy) in enumerate(labeled_accuracies):
            low, high = accuracy.top1_interval
            axes.plot([low, high], [y, y], color=_FAINT, linewidth=4, solid_capstyle="butt")
            axes.plot([accuracy.top1], [y], "o", color=STRONG)
            draw_text(axes, high, y, f"{accuracy.top1:.2f}%")
        caption = "top-1 accuracy, % (with 95% interval)"
        label_rows(axes, [label for label, _ in labeled_accuracies], caption)
        texts = [f"{label} {accuracy.top1:.2f}%" for label, accuracy in labeled_accuracies]
        return export_svg(figure, "Accuracy", texts)


def _select_latencies(rows: Sequence[Row]) -> list[tuple[str, LatencyResult]]:
    """Return label and latency of the rows that have a latency."""
    return [(make_label(row.label), row.latency) for row in rows if row.latency]


def make_label(name: str) -> str:
    """Return a name as it is shown in a chart: control characters are escaped, and it is short."""
    # A name may have thousands of characters, and escaping makes it longer, never shorter.
    label = escape_text(name[: _MAX_NAME_CHARACTERS + 1])
    is_long = len(label) > _MAX_NAME_CHARACTERS
    return f"{label[:_MAX_NAME_CHARACTERS]}..." if is_long else label


def _draw_point(axes: Any, point: _Point, color: str) -> None:
    """Draw a point of the Pareto chart, with the interval of the accuracy."""
    top1, (low, high) = point.accuracy.top1, point.accuracy.top1_interval
    # An interval of a record from elsewhere, or a rounded one, may not contain the accuracy.
    errors = [[max(top1 - low, 0)], [max(high - top1, 0)]]
    axes.errorbar(
        point.median_ms, top1, errors, fmt="o", color=color, capsize=3, linewidth=1, zorder=2
    )


def draw_text(axes: Any, x: float, y: float, text: str) -> None:
    """Write a text to the right of a position."""
    axes.text(x, y, f" {text}", va="center", color=INK, fontsize=_FONT_PT)


def label_rows(axes: Any, labels: Sequence[str], caption: str) -> None:
    """Write a label beside each row, the first row at the top, and a caption below."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.margins(x=0.12)
    axes.set_xlabel(caption)


@contextmanager
def open_figure(height_in: float) -> Iterator[tuple[Any, Any]]:
    """Create an empty matplotlib figure with one pair of axes, in the style of the page.

    Yields:
        The figure and its axes (matplotlib.figure.Figure, matplotlib.axes.Axes).
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError.for_package("matplotlib", extra="bench") from error
    style = {
        "svg.fonttype": "none",
        # Names are drawn as they are. Otherwise, matplotlib would typeset "$...$" as a formula, and
        # LaTeX, if a matplotlibrc file of the user enables it, would execute commands in them.
        "text.parse_math": False,
        "text.usetex": False,
        "svg.hashsalt": "tinyvit",  # so that the ids in the SVG are always the same
        "font.family": "sans-serif",
        "font.size": 10,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
        axes = figure.add_subplot()
        axes.tick_params(colors=INK)
        axes.xaxis.label.set_color(INK)
        axes.yaxis.label.set_color(INK)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(_FAINT)
        yield figure, axes


def export_svg(figure: Any, title: str, texts: Sequence[str]) -> str:
    """Convert the figure to an SVG element for an HTML page.

    This removes the XML prolog, the fixed size and matplotlib's fonts, and replaces the placeholder
    colors.

    Args:
        figure: The figure.
        title: Title of the chart.
        texts: Names and values, which describe the chart to screen readers.
    """
    output = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # None leaves an entry out
    # matplotlib warns of letters that its fonts lack, and of names that leave no space for a chart.
    with quiet_loggers("matplotlib"):
        figure.savefig(output, format="svg", transparent=True, metadata=metadata)
    text = output.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:xmlns:xlink|xmlns)="[^"]*"', "", text).replace("xlink:href", "href")
    for _ in range(2):  # each pass removes either the width or the height
        text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", text)
    text = re.sub(r"font: ([^;\"]*?)'[^\"]*?sans-serif", r"font: \1sans-serif", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    label = html.escape(escape_text(f"{title}: {'; '.join(texts)}"))
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
