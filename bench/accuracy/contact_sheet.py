"""Draws a contact sheet: one image with thumbnails of the images that an artifact misclassifies."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tinyvit.bench.accuracy.evaluate import Evaluation
from tinyvit.bench.accuracy.results import find_shared_images
from tinyvit.files import write_atomically
from tinyvit.images import open_image

MAX_IMAGES = 48
_COLUMNS = 6
_SIDE_PX = 168
_TEXT_HEIGHT_PX = 46
_LINE_HEIGHT_PX = 14
_GAP_PX = 8
_MAX_CHARACTERS = 30


def find_misclassified_images(evaluation: Evaluation, reference: Evaluation | None) -> list[int]:
    """Return the indices of misclassified images, in descending order of the prediction's score.

    Args:
        evaluation: The predictions of the artifact.
        reference: The predictions of a reference artifact, or None. If given, only images that the
            reference classifies correctly are returned.

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
    wrong = [i for i in candidates if evaluation.is_correct[i] is False]
    return sorted(wrong, key=lambda i: -evaluation.predictions[i].score)[:MAX_IMAGES]


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
    chosen = find_misclassified_images(evaluation, reference)
    if not chosen:
        return 0
    rows, columns = -(-len(chosen) // _COLUMNS), min(len(chosen), _COLUMNS)
    cell_width, cell_height = _SIDE_PX + _GAP_PX, _SIDE_PX + _TEXT_HEIGHT_PX + _GAP_PX
    size = (columns * cell_width + _GAP_PX, rows * cell_height + _GAP_PX)
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for position, index in enumerate(chosen):
        row, column = divmod(position, _COLUMNS)
        x, y = _GAP_PX + column * cell_width, _GAP_PX + row * cell_height
        image = open_image(evaluation.samples[index].get_source(), exif=False)
        image.thumbnail((_SIDE_PX, _SIDE_PX))
        left, top = (_SIDE_PX - image.width) // 2, (_SIDE_PX - image.height) // 2
        sheet.paste(image, (x + left, y + top))
        for number, line in enumerate(_caption(evaluation, reference, index)):
            line_y = y + _SIDE_PX + 1 + _LINE_HEIGHT_PX * number
            pen.text((x, line_y), line[:_MAX_CHARACTERS], fill="black", font=font)
    encoded = io.BytesIO()
    sheet.save(encoded, "PNG")
    write_atomically(path, encoded.getvalue())
    return len(chosen)


def _caption(evaluation: Evaluation, reference: Evaluation | None, index: int) -> list[str]:
    truth = evaluation.labels[evaluation.truths[index][0]].name
    lines = [f"is {truth}", f"predicted {_describe_prediction(evaluation, index)}"]
    if reference:
        lines.append(f"reference {_describe_prediction(reference, index)}")
    return lines


def _describe_prediction(evaluation: Evaluation, index: int) -> str:
    prediction = evaluation.predictions[index]
    return f"{evaluation.labels[prediction.classes[0]].name} ({prediction.score:.0%})"
