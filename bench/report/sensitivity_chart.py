"""Draws the chart of the most sensitive units of a network."""

from __future__ import annotations

from tinyvit.bench.record import NetworkSensitivity
from tinyvit.bench.report.chart_style import (
    AXIS_HEIGHT_IN,
    BAR_HEIGHT,
    INK,
    STRONG,
    draw_text,
    export_svg,
    label_rows,
    make_label,
    open_figure,
)
from tinyvit.bench.report.sensitivity_tables import format_share_of_error

MAX_BARS = 25
"""Largest number of units in a chart."""
_ROW_HEIGHT_IN = 0.4


def draw_sensitivity_chart(network: NetworkSensitivity) -> str:
    """Draw the share of the error of the most sensitive units, with their signal-to-noise ratios.

    Args:
        network: The sensitivity of a network.

    Returns:
        An SVG element; "" if there are no units.
    """
    units = network.units[:MAX_BARS]
    if not units:
        return ""
    with open_figure(AXIS_HEIGHT_IN + _ROW_HEIGHT_IN * len(units)) as (figure, axes):
        for y, unit in enumerate(units):
            percent = 100 * unit.share
            axes.barh(y, percent, height=BAR_HEIGHT, color=STRONG)
            snr = "" if unit.snr_db is None else f", {unit.snr_db:.1f} dB"
            # The line at zero does not go through the names between the bars.
            axes.plot([0, 0], [y - BAR_HEIGHT / 2, y + BAR_HEIGHT / 2], color=INK, linewidth=0.8)
            draw_text(axes, max(percent, 0), y, f"{format_share_of_error(unit.share)}{snr}")
        caption = (
            "share of the logits' squared error, %; beside it, the signal-to-noise ratio of the"
            " unit's output"
        )
        label_rows(axes, [make_label(unit.unit) for unit in units], caption)
        texts = [f"{make_label(unit.unit)} {format_share_of_error(unit.share)}" for unit in units]
        return export_svg(figure, "Most sensitive units", texts)
