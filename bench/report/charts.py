"""Rows -> charts, as SVG whose colors are the page's own (CSS variables), so that one drawing serves light, dark and print.

Drawn by matplotlib (extra "bench"). Text stays text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import numpy as np

from tinyvit.bench.report.rows import Row, pareto_front
from tinyvit.errors import MissingDependencyError

INK, FAINT, STRONG, PALE = "#010203", "#040506", "#070809", "#0a0b0c"
"""What is drawn in these becomes --ink, --faint, --strong, --pale on the page."""
STAGES = ("#0d0e0f", "#101112", "#131415", "#161718")
_VARIABLES = {INK: "--ink", FAINT: "--faint", STRONG: "--strong", PALE: "--pale"} | {
    each: f"--stage{i}" for i, each in enumerate(STAGES)
}
_LABEL_HEIGHTS = (6, -15, 20, -29)
"""Points above a mark that its label stands, in turn, so that neighbors do not cover each other's."""
_WIDTH, _BAR = 8.2, 0.42
"""Inches: of a chart, and a bar's share of its height."""


def scatter(found: Sequence[Row]) -> str:
    """Top-1 against median time, with its interval, of rows that have both; the front is strong and joined. "" of fewer than two."""
    points = [
        (row.label, row.latency.median_ms, row.accuracy)
        for row in found
        if row.latency and row.accuracy
    ]
    if len(points) < 2:
        return ""
    points.sort(key=lambda point: point[1])
    best = pareto_front([(ms, right.top1) for _, ms, right in points])
    with _drawn(4.2) as (figure, axes):
        axes.step(
            [points[i][1] for i in best],
            [points[i][2].top1 for i in best],
            where="post",
            color=FAINT,
            linewidth=1.2,
            zorder=1,
        )
        for i, (label, ms, right) in enumerate(points):  # the fastest first
            color = STRONG if i in best else PALE
            low, high = right.top1_interval
            axes.errorbar(
                ms,
                right.top1,
                [[right.top1 - low], [high - right.top1]],
                fmt="o",
                color=color,
                capsize=3,
                linewidth=1,
                zorder=2,
            )
            axes.annotate(
                label,
                (ms, right.top1),
                (6, _LABEL_HEIGHTS[i % 4]),
                textcoords="offset points",
                color=INK,
                fontsize=9,
            )
        axes.set_xlabel("median time, ms (further left is better)")
        axes.set_ylabel("top-1, % (95% interval)")
        axes.margins(y=0.15)
        axes.set_xlim(points[0][1] * 0.85, points[-1][1] * 1.25)
        return _svg(
            figure,
            "Accuracy against latency: "
            + "; ".join(f"{label} {ms:.2f} ms, {right.top1:.2f}%" for label, ms, right in points),
        )


def latencies(found: Sequence[Row]) -> str:
    """A bar to the median of each, a line from its 10th to its 90th percentile of all samples. "" of none."""
    timed = [(row, row.latency) for row in found if row.latency]
    if not timed:
        return ""
    with _drawn(0.9 + _BAR * len(timed)) as (figure, axes):
        for at, (_, one) in enumerate(timed):
            samples = [each for turn in one.turns_ms for each in turn] or [one.median_ms]
            low, high = np.quantile(samples, (0.1, 0.9))
            axes.barh(at, one.median_ms, height=0.55, color=STRONG)
            axes.plot([low, high], [at, at], color=INK, linewidth=1.2)
            axes.text(
                max(high, one.median_ms),
                at,
                f" {one.median_ms:.2f}",
                va="center",
                color=INK,
                fontsize=9,
            )
        _names(
            axes,
            [row.label for row, _ in timed],
            "median ms; the line spans the middle 80% of the runs",
        )
        return _svg(
            figure,
            "Latency: " + "; ".join(f"{row.label} {one.median_ms:.2f} ms" for row, one in timed),
        )


def stages(found: Sequence[Row]) -> str:
    """The stages of the whole way, one bar a row. "" of none."""
    timed = [(row, row.latency) for row in found if row.latency and row.latency.stages_ms]
    if not timed:
        return ""
    names = list(dict.fromkeys(name for _, one in timed for name in one.stages_ms))
    with _drawn(1.3 + _BAR * len(timed)) as (figure, axes):
        for at, (_, one) in enumerate(timed):
            begun = 0.0
            for i, name in enumerate(names):
                took = one.stages_ms.get(name, 0.0)
                axes.barh(
                    at,
                    took,
                    left=begun,
                    height=0.55,
                    color=STAGES[i % len(STAGES)],
                    label=name if at == 0 else None,
                )
                begun += took
        _names(axes, [row.label for row, _ in timed], "median ms of each stage")
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=len(names),
            frameon=False,
            labelcolor=INK,
            fontsize=9,
        )
        return _svg(
            figure,
            "Stages: "
            + "; ".join(
                f"{row.label} {', '.join(f'{k} {v:.2f} ms' for k, v in one.stages_ms.items())}"
                for row, one in timed
            ),
        )


def accuracies(found: Sequence[Row]) -> str:
    """Top-1 with its interval, one line a file. "" of none."""
    judged = list(
        {
            (row.subject.sha256, row.engine, row.accuracy.preprocess): (row, row.accuracy)
            for row in found
            if row.accuracy
        }.values()
    )
    if not judged:
        return ""
    with _drawn(0.9 + _BAR * len(judged)) as (figure, axes):
        for at, (_, one) in enumerate(judged):
            low, high = one.top1_interval
            axes.plot([low, high], [at, at], color=FAINT, linewidth=4, solid_capstyle="butt")
            axes.plot([one.top1], [at], "o", color=STRONG)
            axes.text(high, at, f" {one.top1:.2f}%", va="center", color=INK, fontsize=9)
        axes.margins(x=0.2)
        _names(axes, [row.label for row, _ in judged], "top-1, % with its 95% interval")
        return _svg(
            figure, "Accuracy: " + "; ".join(f"{row.label} {one.top1:.2f}%" for row, one in judged)
        )


@contextmanager
def _drawn(height: float) -> Iterator[tuple[Any, Any]]:
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError.of("matplotlib", "bench") from error
    with mpl.rc_context(
        {
            "svg.fonttype": "none",
            "font.family": "sans-serif",
            "svg.hashsalt": "tinyvit",
            "font.size": 10,
        }
    ):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        axes.tick_params(colors=INK)
        axes.xaxis.label.set_color(INK)
        axes.yaxis.label.set_color(INK)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(FAINT)
        yield figure, axes


def _names(axes: Any, labels: Sequence[str], caption: str) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.margins(x=0.12)
    axes.set_xlabel(caption)


def _svg(figure: Any, label: str) -> str:
    """The drawing as an element of the page: no prolog, no size but its shape, its colors the page's."""
    made = io.StringIO()
    figure.savefig(
        made,
        format="svg",
        transparent=True,
        metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
    )
    text = made.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:xmlns:xlink|xmlns)="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", text)
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", text)
    text = re.sub(r"font: ([^;\"]*?)'[^\"]*?sans-serif", r"font: \1sans-serif", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(label, quote=True)}"', 1)
