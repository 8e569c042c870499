"""The parts that all charts of a report share: figures in the style of the page, and SVG.

matplotlib draws with placeholder colors, which are then replaced by CSS variables of the page, so
that the same SVG works in light mode, dark mode and print. Text stays text in the SVG and is not
converted to outlines. A chart is as narrow as the screen of a phone, where its text keeps a
readable size, so names stand above the bars and not beside them.
"""

from __future__ import annotations

import html
import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tinyvit.errors import MissingDependencyError
from tinyvit.processes.output_capture import quiet_loggers
from tinyvit.text.safe_text import escape_text

INK, FAINT, STRONG, PALE = "#010203", "#040506", "#070809", "#0a0b0c"
"""Placeholder colors of text, of lines, of bars and emphasized points, and of other points."""
STAGE_COLORS = ("#0d0e0f", "#101112", "#131415", "#161718")
"""Placeholder colors of the stages of a query, in their order."""
_VARIABLES = {INK: "--ink", FAINT: "--faint", STRONG: "--strong", PALE: "--pale"} | {
    color: f"--stage{i}" for i, color in enumerate(STAGE_COLORS)
}
"""Placeholder color -> the CSS variable (defined in page.css) that replaces it."""
BAR_HEIGHT = 0.34
"""Height of a bar as a fraction of the distance between bars."""
_NAME_SPACE = 0.05
"""Space between a bar and the name above it, as a fraction of the distance between bars."""
_NAME_INDENT = 0.01
"""Distance of a name from the left border of the chart, as a fraction of the chart's width."""
_TEXT_SPACE_PT = 4
"""Distance of a value from the end of its bar."""
ROW_HEIGHT_IN = 0.5
AXIS_HEIGHT_IN = 0.75
FONT_PT = 9
_WIDTH_IN = 4.4
_CAPTION_CHARACTERS = 56
"""Number of characters in a line of a caption."""
_MAX_NAME_CHARACTERS = 56
"""Number of characters to which names are shortened, so that they fit into the chart."""


def make_label(name: str) -> str:
    """Return a name as it is shown in a chart: control characters are escaped, and it is short."""
    # A name may have thousands of characters, and escaping makes it longer, never shorter.
    label = escape_text(name[: _MAX_NAME_CHARACTERS + 1])
    is_long = len(label) > _MAX_NAME_CHARACTERS
    return f"{label[:_MAX_NAME_CHARACTERS]}..." if is_long else label


def draw_text(axes: Any, x: float, y: float, text: str) -> None:
    """Write a text to the right of a position."""
    axes.annotate(
        text,
        (x, y),
        (_TEXT_SPACE_PT, 0),
        textcoords="offset points",
        va="center",
        color=INK,
        fontsize=FONT_PT,
    )


def label_rows(axes: Any, labels: Sequence[str], caption: str) -> None:
    """Write a label above each row, the first row at the top, and a caption below."""
    for y, label in enumerate(labels):
        text = axes.text(
            _NAME_INDENT,
            y - BAR_HEIGHT / 2 - _NAME_SPACE,
            label,
            transform=axes.get_yaxis_transform(),
            va="bottom",
            color=INK,
            fontsize=FONT_PT,
        )
        text.set_in_layout(False)  # a long name may not make the chart narrower
    axes.set_yticks([])
    axes.set_ylim(len(labels) - 0.5, -0.6)
    axes.margins(x=0.12)
    axes.set_xlabel(wrap_caption(caption))


def wrap_caption(caption: str) -> str:
    """Break a caption into lines that are as long as the chart is wide."""
    return textwrap.fill(caption, _CAPTION_CHARACTERS)


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
            spine.set_color(FAINT)
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
