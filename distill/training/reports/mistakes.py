"""Draws a contact sheet of the misclassified images with the most confident predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFont

from tinyvit.distill.training.reports.class_names import find_font, make_drawable_names
from tinyvit.distill.training.validation.evaluate import ImagePredictions
from tinyvit.errors import ImageError
from tinyvit.images.contact_sheet import FONT_PX, THUMBNAIL_PX, ContactSheet
from tinyvit.images.decoding import open_image
from tinyvit.labels import Label

MAX_MISTAKES = 20
"""Largest number of images on the sheet."""
_COLUMNS = 5
_UNREADABLE_COLOR = (224, 224, 224)


def find_mistakes(predictions: ImagePredictions) -> list[int]:
    """Return the indices of the misclassified images, the most confident prediction first.

    Args:
        predictions: The predictions.

    Returns:
        The indices of all misclassified images. With equal confidence, the earlier image is first.
    """
    mistakes = np.flatnonzero(~predictions.is_correct)
    order = np.argsort(-predictions.confidences[mistakes], kind="stable")
    return [int(index) for index in mistakes[order]]


def draw_mistakes(
    predictions: ImagePredictions, mistakes: Sequence[int], labels: Sequence[Label]
) -> bytes:
    """Draw misclassified images with their correct class, predicted class, confidence and file.

    Args:
        predictions: The predictions.
        mistakes: Indices of at least one image, in the order in which they are drawn.
        labels: The labels of all classes of the network.

    Returns:
        The bytes of a PNG file. An image that cannot be read any more is a gray square.

    Raises:
        MissingDependencyError: matplotlib, which contains the font, is not installed.
    """
    font = ImageFont.truetype(str(find_font()), FONT_PX)
    names = make_drawable_names(labels)
    sheet = ContactSheet(len(mistakes), _COLUMNS, caption_lines=4, font=font)
    for index in mistakes:
        file = predictions.files[index]
        try:
            # The EXIF orientation is ignored, as in the evaluation.
            image = open_image(file, exif=False)
        except ImageError:
            image = Image.new("RGB", (THUMBNAIL_PX, THUMBNAIL_PX), _UNREADABLE_COLOR)
        caption = [
            f"correct: {names[predictions.classes[index]]}",
            f"predicted: {names[predictions.predicted_classes[index]]}",
            f"confidence: {100 * predictions.confidences[index]:.1f}%",
            f"file: {file.name}",
        ]
        sheet.add(image, caption)
    return sheet.encode_png()
