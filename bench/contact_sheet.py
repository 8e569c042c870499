"""The pictures that a file gets wrong and its reference got right, on one sheet, for people to look at."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tinyvit.bench.accuracy import Looked, both
from tinyvit.images import open_image

MOST = 48
_COLUMNS, _SIDE, _TEXT, _GAP = 6, 168, 46, 8


def worst(looked: Looked, reference: Looked) -> list[int]:
    """Pictures that went from right to wrong, those the file is surest of first."""
    lost = [i for i in both(looked, reference) if reference.right[i] and not looked.right[i]]
    return sorted(lost, key=lambda i: -looked.answers[i].score)[:MOST]


def draw(looked: Looked, reference: Looked, path: Path) -> int:
    """Write the sheet at `path`, a PNG; returns how many pictures are on it: of none, nothing is written."""
    chosen = worst(looked, reference)
    if not chosen:
        return 0
    rows = -(-len(chosen) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * (_SIDE + _GAP) + _GAP, rows * (_SIDE + _TEXT + _GAP) + _GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for place, i in enumerate(chosen):
        x, y = _GAP + place % _COLUMNS * (_SIDE + _GAP), _GAP + place // _COLUMNS * (_SIDE + _TEXT + _GAP)
        image = open_image(looked.samples[i].picture(), exif=False)
        image.thumbnail((_SIDE, _SIDE))
        sheet.paste(image, (x + (_SIDE - image.width) // 2, y + (_SIDE - image.height) // 2))
        here, before = looked.answers[i], reference.answers[i]
        lines = (
            f"is {looked.labels[looked.truths[i][0]].name}",
            f"now {looked.labels[here.best[0]].name} ({here.score:.0%})",
            f"was {looked.labels[before.best[0]].name} ({before.score:.0%})",
        )
        for row, line in enumerate(lines):
            pen.text((x, y + _SIDE + 1 + 14 * row), line[:30], fill="black", font=font)
    partial = path.with_name(f".{path.name}.partial")
    try:
        sheet.save(partial, "PNG")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return len(chosen)
