"""The style of the line pictures in the documentation, as SVG for light and for dark pages."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

COLORS: Final = ("#d0702c", "#2c80d0", "#3a9a5b", "#9a5bb0")
"""Colors of the lines, which are legible on light and on dark pages."""
_GRAY = "#808080"
_LABEL_AND_TICKS = {"axes.labelcolor": _GRAY, "xtick.color": _GRAY, "ytick.color": _GRAY}
_TICK_STEPS = ((1.2, (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)), (2.2, (1.0, 2.0, 5.0)), (math.inf, (1.0,)))
"""Number of decades of a logarithmic axis, and the first digits of its ticks below that number."""


@contextmanager
def use_style(name: str) -> Iterator[None]:
    """Draw and save pictures in the style of the documentation during a `with` block.

    Args:
        name: A name of the picture. Pictures of the same content and name have the same bytes.
    """
    from matplotlib import rc_context

    settings = {"svg.fonttype": "none", "svg.hashsalt": name, "text.color": _GRAY}
    with rc_context({**settings, **_LABEL_AND_TICKS}):
        yield


def style_axes(axes: Any, x_label: str, y_label: str) -> None:
    """Label axes, draw a grid and leave out the frame.

    Args:
        axes: The `matplotlib.axes.Axes`.
        x_label: Quantity on the horizontal axis, with its unit.
        y_label: Quantity on the vertical axis, with its unit.
    """
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.tick_params(which="both", colors=_GRAY)
    axes.grid(color=_GRAY, alpha=0.25)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)


def use_log_axis(axis: Any, values: Sequence[float]) -> None:
    """Make an axis logarithmic, with plain numbers beside a few ticks.

    Args:
        axis: The `matplotlib.axis.Axis`.
        values: The values that are drawn, greater than 0. The axis shows at least a factor of two
            around them, so that small changes look small.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = min(values), max(values)
    if high < 2 * low:
        low, high = low / 2, high * 2
    margin = (high / low) ** 0.05
    axis.axes.set(**{f"{axis.axis_name}lim": (low / margin, high * margin)})
    decades = math.log10(high / low)
    steps = next(steps for limit, steps in _TICK_STEPS if decades < limit)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def export_svg(figure: Any) -> bytes:
    """Return a figure as SVG without a background and a date.

    Args:
        figure: The `matplotlib.figure.Figure`.
    """
    svg = io.BytesIO()
    figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
    return svg.getvalue()
