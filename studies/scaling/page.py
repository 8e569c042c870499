"""Draws the curves of the study, and formats its page and its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tinyvit.bench.record import PACKAGE_VERSION, DeviceInfo
from tinyvit.bench.report.console import format_table_row
from tinyvit.serialization import parse_dataclass
from tinyvit.studies.earlier_records import list_comparable_items
from tinyvit.studies.figures_page import describe_device, make_device_record
from tinyvit.studies.line_pictures import (
    COLORS,
    export_svg,
    style_axes,
    use_log_axis,
    use_style,
)
from tinyvit.studies.scaling.curves import (
    QUANTITIES,
    Curve,
    Part,
    list_local_exponents,
)

HANDWRITTEN = "<!-- Written by hand: what explains the kinks. Kept when the page is written. -->"
"""The line that begins the part of the page that the command keeps."""
_EXPLANATION = """\
This page is written by `python -m tinyvit.studies.scaling`, except for its last part. Each point is
measured in a new process. The time is the median of its runs on one thread, unless threads are
varied; the memory is the growth of the process's peak memory after the engine was imported, and
after the pictures were listed unless the list is named.
Networks have random weights, which take the same time as trained ones. Both axes of the pictures
are logarithmic. An exponent n means that a quantity grows as x to the power of n: it is fitted to
all points, and the number in parentheses is that of a point and the one before it."""
_MARKERS = ("o", "s", "^", "D")


@dataclass(frozen=True)
class ScalingRecord:
    """Everything that the study measured.

    Attributes:
        device: The machine.
        parts: The parts, in order.
        is_quick: Whether the values were chosen only to try the program.
    """

    device: DeviceInfo
    parts: tuple[Part, ...]
    is_quick: bool = False


def make_record(record: ScalingRecord) -> dict[str, Any]:
    """Return the record as a JSON object, with the exponents.

    Args:
        record: The measurements.
    """
    parts = []
    for part in record.parts:
        curves = [{**asdict(curve), "exponent": curve.exponent} for curve in part.curves]
        parts.append({**asdict(part), "curves": curves})
    return {
        "package": PACKAGE_VERSION,
        "device": make_device_record(record.device),
        "quick": record.is_quick,
        "parts": parts,
    }


def read_parts(record: Any, device: DeviceInfo, is_quick: bool) -> list[Part]:
    """Read the parts of an earlier record; none if it is of another processor or kind of plan.

    Args:
        record: The content of the JSON file.
        device: The present machine.
        is_quick: Whether the present plan only tries the program.

    Raises:
        ValueError: The record has another form.
    """
    parts = []
    for part in list_comparable_items(record, "parts", device, is_quick):
        curves = [
            {key: value for key, value in curve.items() if key != "exponent"}
            for curve in part["curves"]
        ]
        parts.append(parse_dataclass(Part, {**part, "curves": curves}))
    return parts


def name_picture(stem: str, part: Part) -> str:
    """Return the name of the picture of a part.

    Args:
        stem: Name of the page without its suffix.
        part: The part.
    """
    return f"{stem}-{part.name}.svg"


def format_page(record: ScalingRecord, stem: str, pictures: str, handwritten: str) -> str:
    """Return the page, in Markdown.

    Args:
        record: The measurements.
        stem: Name of the page without its suffix.
        pictures: Path of the pictures' folder, relative to the page.
        handwritten: The text of the earlier page after `HANDWRITTEN`; empty if there is none.
    """
    device = record.device
    lines = [
        f"# How cost grows on {device.architecture}, {device.cpu}",
        "",
        f"{describe_device(device)}; {PACKAGE_VERSION}.",
        "",
        *_EXPLANATION.splitlines(),
    ]
    if record.is_quick:
        lines += ["", "The option --quick was given, so nothing on this page is a result."]
    for part in record.parts:
        lines += ["", f"## {part.title}", ""]
        if part.curves:
            lines += [f"Measured {part.date}, in {part.seconds:.0f} s.", ""]
            lines += [f"![{part.title}]({pictures}/{name_picture(stem, part)})", ""]
        for quantity in QUANTITIES:
            lines += _format_table([c for c in part.curves if c.quantity == quantity], part)
        lines += [f"- {note}" for note in part.notes]
    return "\n".join([*lines, "", HANDWRITTEN]) + (handwritten or "\n")


def read_handwritten(page: str) -> str:
    """Return what follows the line `HANDWRITTEN` of a page; empty if it has no such line.

    Args:
        page: The page.
    """
    return page.partition(HANDWRITTEN)[2]


def _format_table(curves: Sequence[Curve], part: Part) -> list[str]:
    """Return the table of the curves of one quantity, with an empty line after it."""
    if not curves:
        return []
    xs = sorted({x for curve in curves for x, _ in curve.points})
    header = (part.x_label, *(f"{x:,.4g}" if x < 1e4 else f"{x:,.0f}" for x in xs), "exponent")
    lines = [format_table_row(header), "|---" * len(header) + "|"]
    for curve in curves:
        exponents = [None, *list_local_exponents(curve.points)]
        cells = {
            x: _format_value(y) + ("" if exponent is None else f" ({exponent:.2f})")
            for (x, y), exponent in zip(curve.points, exponents)
        }
        exponent = "" if curve.exponent is None else f"{curve.exponent:.2f}"
        name = f"{curve.name}: {curve.quantity}"
        lines.append(format_table_row((name, *(cells.get(x, "") for x in xs), exponent)))
    return [*lines, ""]


def _format_value(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def draw_part(part: Part) -> bytes:
    """Draw the curves of a part with logarithmic axes, one panel for each quantity.

    Args:
        part: A part with at least one curve.

    Returns:
        An SVG image.
    """
    from matplotlib.figure import Figure

    present = {curve.quantity for curve in part.curves}
    quantities = [quantity for quantity in QUANTITIES if quantity in present]
    with use_style(part.name):
        figure = Figure(figsize=(3.6 * len(quantities), 4), layout="constrained")
        panels = figure.subplots(1, len(quantities), squeeze=False)[0]
        for axes, quantity in zip(panels, quantities):
            curves = [curve for curve in part.curves if curve.quantity == quantity]
            _draw_panel(axes, curves)
            style_axes(axes, part.x_label, quantity)
        return export_svg(figure)


def _draw_panel(axes: Any, curves: Sequence[Curve]) -> None:
    """Draw curves with logarithmic axes; their labels state the exponents."""
    for index, curve in enumerate(curves):
        exponent = "" if curve.exponent is None else f" ({curve.exponent:.2f})"
        axes.plot(
            *zip(*curve.points),
            color=COLORS[index % len(COLORS)],
            marker=_MARKERS[index % len(_MARKERS)],
            markersize=3,
            label=f"{curve.name}{exponent}",
        )
    xs, ys = zip(*(point for curve in curves for point in curve.points))
    use_log_axis(axes.xaxis, xs)
    use_log_axis(axes.yaxis, ys)
    axes.legend(frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0))
