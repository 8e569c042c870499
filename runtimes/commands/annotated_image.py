"""Draws predictions below an image, for tinyvit-predict --save."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from tinyvit.images.contact_sheet import fit_text
from tinyvit.runtimes.predictions import Prediction

MIN_WIDTH_PX = 240
"""Smallest width of an annotated image. Narrower images get a black margin at their right."""

_MIN_FONT_PX, _MAX_FONT_PX = 13, 48
_WIDTHS_PER_LINE = 30
"""Width of an image divided by the height of its text, within the limits of the font size."""

_LINE_HEIGHT = 1.3
"""Height of a line divided by the size of the font."""

_JPEG_QUALITY = 92


def annotate_image(image: Image.Image, predictions: Sequence[Prediction]) -> bytes:
    """Draw the predictions for an image below it, one line each. The image itself is not covered.

    Args:
        image: An RGB image, as `tinyvit.images.decoding.open_image` returns it.
        predictions: The predictions, the most probable class first.

    Returns:
        The bytes of a JPEG file with the image in its full size and the lines below it.
    """
    width = max(image.width, MIN_WIDTH_PX)
    font_px = min(max(width // _WIDTHS_PER_LINE, _MIN_FONT_PX), _MAX_FONT_PX)
    font = ImageFont.load_default(font_px)
    line_px, gap_px = round(font_px * _LINE_HEIGHT), font_px // 2
    height = image.height + line_px * len(predictions) + 2 * gap_px
    canvas = Image.new("RGB", (width, height), "black")
    canvas.paste(image, (0, 0))
    pen = ImageDraw.Draw(canvas)
    for number, prediction in enumerate(predictions):
        line = f"{prediction.score:6.1%}  {prediction.label}"
        y = image.height + gap_px + number * line_px
        pen.text((gap_px, y), fit_text(line, font, width - 2 * gap_px), fill="white", font=font)
    encoded = io.BytesIO()
    canvas.save(encoded, "JPEG", quality=_JPEG_QUALITY)
    return encoded.getvalue()
