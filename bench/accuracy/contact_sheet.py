"""The pictures that a file gets wrong, of two files those that only the other gets right, on one sheet for people to look at."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tinyvit.bench.accuracy.evaluate import Evaluation, both
from tinyvit.files import write_atomically
from tinyvit.images import open_image

MOST = 48
_COLUMNS, _SIDE, _TEXT, _GAP = 6, 168, 46, 8


def worst(looked: Evaluation, reference: Evaluation | None) -> list[int]:
    """Pictures that are wrong (and were right by the reference), those that the file is surest of first; at most MOST."""
    lost = (
        [i for i in both(looked, reference) if reference.right[i]]
        if reference
        else range(len(looked.answers))
    )
    return sorted(
        (i for i in lost if looked.right[i] is False), key=lambda i: -looked.answers[i].score
    )[:MOST]


def draw(looked: Evaluation, reference: Evaluation | None, path: Path) -> int:
    """Write the sheet at `path`, a PNG; returns how many pictures are on it: of none, nothing is written."""
    chosen = worst(looked, reference)
    if not chosen:
        return 0
    rows, columns = -(-len(chosen) // _COLUMNS), min(len(chosen), _COLUMNS)
    sheet = Image.new(
        "RGB", (columns * (_SIDE + _GAP) + _GAP, rows * (_SIDE + _TEXT + _GAP) + _GAP), "white"
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for place, i in enumerate(chosen):
        x, y = (
            _GAP + place % _COLUMNS * (_SIDE + _GAP),
            _GAP + place // _COLUMNS * (_SIDE + _TEXT + _GAP),
        )
        image = open_image(looked.samples[i].picture(), exif=False)
        image.thumbnail((_SIDE, _SIDE))
        sheet.paste(image, (x + (_SIDE - image.width) // 2, y + (_SIDE - image.height) // 2))
        for row, line in enumerate(_lines(looked, reference, i)):
            pen.text((x, y + _SIDE + 1 + 14 * row), line[:30], fill="black", font=font)
    encoded = io.BytesIO()
    sheet.save(encoded, "PNG")
    write_atomically(path, encoded.getvalue())
    return len(chosen)


def _lines(looked: Evaluation, reference: Evaluation | None, i: int) -> list[str]:
    said = {
        "now" if reference else "said": looked.answers[i],
        **({"was": reference.answers[i]} if reference else {}),
    }
    answers = [
        f"{when} {looked.labels[one.best[0]].name} ({one.score:.0%})" for when, one in said.items()
    ]
    return [f"is {looked.labels[looked.truths[i][0]].name}", *answers]
