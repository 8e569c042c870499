"""Draws the diagram of the pipeline in the README and on the first page of the documentation.

    python docs/tools/pipeline_diagram.py            # writes docs/images/pipeline-*.svg
    python docs/tools/pipeline_diagram.py --check    # only says whether the files are up to date

There are two files, for pages with a light and with a dark background.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

from generated_files import run_generator

FOLDER = Path(__file__).parents[1] / "images"
"""Folder of the diagrams."""

_WIDTH, _HEIGHT = 760, 536
_GAP = 12
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
_FONT_SIZES = (21, 19)
"""Sizes in pixels of the first line of a box, and of the other lines and of all in narrow boxes."""
_DESCRIPTION = (
    "A checkpoint is exported once and becomes one artifact for each target. Each artifact is run,"
    " verified and measured on the device."
)


@dataclass(frozen=True)
class Palette:
    """Colors of the diagram, as SVG writes them.

    Attributes:
        text: Color of the first line of a box.
        detail: Color of the other lines and of the arrows.
        fill: Background of a box.
        border: Border of a box.
        accent: Border and background of the boxes with commands: (border, background).
    """

    text: str
    detail: str
    fill: str
    border: str
    accent: tuple[str, str]


PALETTES = {
    "light": Palette("#1b1f24", "#57606a", "#f6f8fa", "#afb8c1", ("#00695c", "#e0f2f1")),
    "dark": Palette("#e6edf3", "#9da7b3", "#161b22", "#57606a", ("#4db6ac", "#12302d")),
}
"""Name of the background -> the colors of the diagram."""


@dataclass(frozen=True)
class Row:
    """A row of boxes of equal width.

    Attributes:
        top: Distance from the top of the diagram in pixels.
        height: Height of the boxes in pixels.
        boxes: The lines of each box; the first line is bold.
        is_command: Whether the boxes stand for commands, and have the accent color.
    """

    top: int
    height: int
    boxes: tuple[tuple[str, ...], ...]
    is_command: bool = False


_ROWS = (
    Row(
        4,
        76,
        (
            ("Your checkpoint", "timm, the paper, Lightning, ..."),
            ("tinyvit-distill", "your classes, or a teacher"),
        ),
    ),
    Row(
        116,
        104,
        (
            (
                "tinyvit-export",
                "fold, calibrate once, convert for each target,",
                "compare with PyTorch",
            ),
        ),
        is_command=True,
    ),
    Row(256, 48, (("ONNX",), ("ORT",), ("OpenVINO",), ("LiteRT",), ("ExecuTorch",))),
    Row(
        316,
        76,
        (
            ("Core ML", "Apple"),
            ("TensorRT", "NVIDIA GPU"),
            ("QNN", "Snapdragon NPU"),
            ("RKNN", "Rockchip NPU"),
        ),
    ),
    Row(
        428,
        104,
        (
            ("Run", "Classifier,", "tinyvit-predict"),
            ("Verify", "on the device:", "tinyvit-verify"),
            ("Measure", "speed, accuracy:", "tinyvit-bench"),
        ),
        is_command=True,
    ),
)
_MIN_ARROW = 20
"""Rows that are closer to each other than this, in pixels, belong together, without an arrow."""


def draw_diagram(palette: Palette) -> str:
    """Draw the diagram.

    Args:
        palette: Its colors.

    Returns:
        The text of an SVG file.
    """
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        f' width="{_WIDTH}" height="{_HEIGHT}" role="img" font-family="{_FONT}"'
        ' text-anchor="middle">',
        f"<title>{escape(_DESCRIPTION)}</title>",
    ]
    for row in _ROWS:
        parts += _draw_row(row, palette)
    for upper, lower in pairwise(_ROWS):
        top, bottom = upper.top + upper.height + 4, lower.top - 4
        if bottom - top >= _MIN_ARROW:
            parts.append(_draw_arrow(top, bottom, palette))
    return "\n".join([*parts, "</svg>", ""])


def _draw_row(row: Row, palette: Palette) -> Iterator[str]:
    """Draw the boxes of a row next to each other."""
    border, fill = palette.accent if row.is_command else (palette.border, palette.fill)
    width = (_WIDTH - 4 - _GAP * (len(row.boxes) - 1)) / len(row.boxes)
    for index, lines in enumerate(row.boxes):
        left = 2 + index * (width + _GAP)
        yield (
            f'<rect x="{left:.0f}" y="{row.top}" width="{width:.0f}" height="{row.height}"'
            f' rx="10" fill="{fill}" stroke="{border}" stroke-width="2"/>'
        )
        first = row.top + row.height / 2 - 13 * (len(lines) - 1) + 7
        for number, line in enumerate(lines):
            weight, color = ("600", palette.text) if number == 0 else ("400", palette.detail)
            size = _FONT_SIZES[0] if number == 0 and len(row.boxes) < 5 else _FONT_SIZES[1]
            yield (
                f'<text x="{left + width / 2:.0f}" y="{first + 26 * number:.0f}"'
                f' font-size="{size}" font-weight="{weight}"'
                f' fill="{color}">{escape(line)}</text>'
            )


def _draw_arrow(top: int, bottom: int, palette: Palette) -> str:
    """Draw an arrow in the middle, from one row to the next."""
    x = _WIDTH // 2
    return (
        f'<path d="M{x} {top}V{bottom}M{x - 8} {bottom - 9}L{x} {bottom}L{x + 8} {bottom - 9}"'
        f' fill="none" stroke="{palette.detail}" stroke-width="2.5"/>'
    )


def make_files() -> dict[Path, str]:
    """Draw the diagram in every palette."""
    return {
        FOLDER / f"pipeline-{name}.svg": draw_diagram(palette) for name, palette in PALETTES.items()
    }


if __name__ == "__main__":
    sys.exit(run_generator("Draw the diagram of the pipeline.", make_files))
