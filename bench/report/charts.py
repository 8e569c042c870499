"""Draws the charts of a report as SVG, with matplotlib, which the extra "bench" installs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyvit.bench.record import AccuracyResult, LatencyResult
from tinyvit.bench.report.chart_style import (
    AXIS_HEIGHT_IN,
    BAR_HEIGHT,
    FAINT,
    FONT_PT,
    INK,
    PALE,
    ROW_HEIGHT_IN,
    STAGE_COLORS,
    STRONG,
    draw_text,
    export_svg,
    label_rows,
    make_label,
    open_figure,
)
from tinyvit.bench.report.rows import Row, find_pareto_front

_NUMBER_OFFSETS_PT = (4, -11, 14, -21)
"""Vertical distances of numbers from their points, used in turn so that the numbers of neighboring
points do not overlap."""
_NUMBER_SPACE_PT = 4
"""Horizontal distance of numbers from their points."""
_SPAN_SPACE = 0.09
"""Space between a bar and the line of its percentiles below it, as a fraction of the distance
between bars."""
_VALUE_SPACE = 0.14
"""Space between a point and its value below it, as a fraction of the distance between rows."""
_PARETO_HEIGHT_IN = 3.4
_KEY_LINE_IN = 0.17
"""Height of a line in the list of names below the Pareto chart."""
_LEGEND_HEIGHT_IN = 0.4


@dataclass(frozen=True)
class _Point:
    """A point of the Pareto chart."""

    label: str
    median_ms: float
    accuracy: AccuracyResult


def draw_pareto_chart(rows: Sequence[Row]) -> str:
    """Draw top-1 accuracy against median latency, with the Pareto front emphasized.

    The points are numbered, and a list below the chart names them.

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
    with open_figure(_PARETO_HEIGHT_IN + _KEY_LINE_IN * len(points)) as (figure, axes):
        front_ms = [points[i].median_ms for i in front]
        front_top1 = [points[i].accuracy.top1 for i in front]
        axes.step(front_ms, front_top1, where="post", color=FAINT, linewidth=1.2, zorder=1)
        for i, point in enumerate(points):
            _draw_point(axes, point, STRONG if i in front else PALE)
            axes.annotate(
                str(i + 1),
                (point.median_ms, point.accuracy.top1),
                (_NUMBER_SPACE_PT, _NUMBER_OFFSETS_PT[i % len(_NUMBER_OFFSETS_PT)]),
                textcoords="offset points",
                color=INK,
                fontsize=FONT_PT,
            )
        axes.set_xlabel("median latency, ms (lower is better)")
        key = "\n".join(f"{i}  {point.label}" for i, point in enumerate(points, start=1))
        figure.supxlabel(key, x=0.02, ha="left", multialignment="left", color=INK, fontsize=FONT_PT)
        axes.set_ylabel("top-1 accuracy, % (with 95% interval)")
        axes.margins(y=0.15)
        axes.set_xlim(points[0].median_ms * 0.85, points[-1].median_ms * 1.1)
        texts = [
            f"{point.label} {point.median_ms:.2f} ms, {point.accuracy.top1:.2f}%"
            for point in points
        ]
        return export_svg(figure, "Accuracy against latency", texts)


def draw_latency_chart(rows: Sequence[Row]) -> str:
    """Draw the median latency of each row, and below it its 10th to 90th percentile as a line.

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
            span_y = y + BAR_HEIGHT / 2 + _SPAN_SPACE
            axes.plot([low, high], [span_y, span_y], color=INK, linewidth=1.2)
            draw_text(axes, latency.median_ms, y, f"{latency.median_ms:.2f}")
        caption = "median ms; the line below spans the 10th to the 90th percentile"
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
                color = STAGE_COLORS[i % len(STAGE_COLORS)]
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
            fontsize=FONT_PT,
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
            axes.plot([low, high], [y, y], color=FAINT, linewidth=4, solid_capstyle="butt")
            axes.plot([accuracy.top1], [y], "o", color=STRONG)
            axes.text(
                accuracy.top1,
                y + _VALUE_SPACE,
                f"{accuracy.top1:.2f}%",
                ha="center",
                va="top",
                color=INK,
                fontsize=FONT_PT,
            )
        caption = "top-1 accuracy, % (with 95% interval)"
        label_rows(axes, [label for label, _ in labeled_accuracies], caption)
        texts = [f"{label} {accuracy.top1:.2f}%" for label, accuracy in labeled_accuracies]
        return export_svg(figure, "Accuracy", texts)


def _select_latencies(rows: Sequence[Row]) -> list[tuple[str, LatencyResult]]:
    """Return label and latency of the rows that have a latency."""
    return [(make_label(row.label), row.latency) for row in rows if row.latency]


def _draw_point(axes: Any, point: _Point, color: str) -> None:
    """Draw a point of the Pareto chart, with the interval of the accuracy."""
    top1, (low, high) = point.accuracy.top1, point.accuracy.top1_interval
    # An interval of a record from elsewhere, or a rounded one, may not contain the accuracy.
    errors = [[max(top1 - low, 0)], [max(high - top1, 0)]]
    axes.errorbar(
        point.median_ms, top1, errors, fmt="o", color=color, capsize=3, linewidth=1, zorder=2
    )
