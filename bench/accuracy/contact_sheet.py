"""Draws a contact sheet: one image with thumbnails of the images that an artifact misclassifies."""

from __future__ import annotations

import io
import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tinyvit.bench.accuracy.evaluate import Evaluation
from tinyvit.bench.accuracy.results import find_shared_images
from tinyvit.files import write_atomically
from tinyvit.images import open_image

MAX_IMAGES = 48
"""Maximum number of images on the sheet."""
_COLUMNS = 6
_THUMBNAIL_PX = 168
_TEXT_HEIGHT_PX = 46
_LINE_HEIGHT_PX = 14
_GAP_PX = 8
_FONT_PX = 11
_MAX_CHARACTERS = 30
"""Longest line of a caption that fits under a thumbnail; the rest is cut off."""
_CELL_WIDTH_PX = _THUMBNAIL_PX + _GAP_PX
_CELL_HEIGHT_PX = _THUMBNAIL_PX + _TEXT_HEIGHT_PX + _GAP_PX


def find_misclassified_images(evaluation: Evaluation, reference: Evaluation | None) -> list[int]:
    """Return the indices of misclassified images, those with the most confident prediction first.

    Args:
        evaluation: The predictions of the artifact.
        reference: The predictions of a reference artifact; images that the reference misclassifies
            too are left out. None without a reference.

    Returns:
        At most `MAX_IMAGES` indices.

    Raises:
        RequestError: The two evaluations are of different images or classes.
    """
    if reference:
        shared = find_shared_images(evaluation, reference)
        candidates = [i for i in shared if reference.is_correct[i]]
    else:
        candidates = list(range(len(evaluation.predictions)))
    # `is_correct` is None for an image that could not be read.
    misclassified = [i for i in candidates if evaluation.is_correct[i] is False]
    return sorted(misclassified, key=lambda i: -evaluation.predictions[i].score)[:MAX_IMAGES]


def write_contact_sheet(evaluation: Evaluation, reference: Evaluation | None, path: Path) -> int:
    """Draw the images of `find_misclassified_images`, with their correct and predicted classes.

    Args:
        evaluation: The predictions of the artifact.
        reference: The predictions of a reference artifact; None without one.
        path: The PNG file to write. Nothing is written if no image is misclassified.

    Returns:
        The number of images on the sheet.

    Raises:
        RequestError: The two evaluations are of different images or classes.
    """
    shown_indices = find_misclassified_images(evaluation, reference)
    if not shown_indices:
        return 0
    rows, columns = math.ceil(len(shown_indices) / _COLUMNS), min(len(shown_indices), _COLUMNS)
    size = (columns * _CELL_WIDTH_PX + _GAP_PX, rows * _CELL_HEIGHT_PX + _GAP_PX)
    sheet = Image.new("RGB", size, "white")
    for position, index in enumerate(shown_indices):
        row, column = divmod(position, _COLUMNS)
        x, y = _GAP_PX + column * _CELL_WIDTH_PX, _GAP_PX + row * _CELL_HEIGHT_PX
        # The EXIF orientation is ignored, as in `predict_samples`.
        image = open_image(evaluation.samples[index].get_source(), exif=False)
        _draw_cell(sheet, (x, y), image, _make_caption(evaluation, reference, index))
    encoded = io.BytesIO()
    sheet.save(encoded, "PNG")
    write_atomically(path, encoded.getvalue())
    return len(shown_indices)


def _draw_cell(
    sheet: Image.Image, corner: tuple[int, int], image: Image.Image, caption: list[str]
) -> None:
    """Draw an image and its caption; `corner` is the upper left corner of the cell in pixels."""
    x, y = corner
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    left, top = (_THUMBNAIL_PX - image.width) // 2, (_THUMBNAIL_PX - image.height) // 2
    sheet.paste(image, (x + left, y + top))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_PX)
    for line_number, line in enumerate(caption):
        line_y = y + _THUMBNAIL_PX + 1 + _LINE_HEIGHT_PX * line_number
        pen.text((x, line_y), line[:_MAX_CHARACTERS], fill="black", font=font)


def _make_caption(evaluation: Evaluation, reference: Evaluation | None, index: int) -> list[str]:
    """Return the lines below an image: its first correct class and the predicted classes."""
    truth = evaluation.labels[evaluation.truths[index][0]].name
    lines = [f"is {truth}", f"predicted {_describe_prediction(evaluation, index)}"]
    if reference:
        lines.append(f"reference {_describe_prediction(reference, index)}")
    return lines


def _describe_prediction(evaluation: Evaluation, index: int) -> str:
    prediction = evaluation.predictions[index]
    return f"{evaluation.labels[prediction.classes[0]].name} ({prediction.score:.0%})"
