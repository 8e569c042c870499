"""Draws contact sheets: one image with thumbnails of many images and a few lines of text each."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

from tinyvit.text.safe_text import escape_text

Font: TypeAlias = "ImageFont.FreeTypeFont | ImageFont.ImageFont"
"""A font of Pillow."""

FONT_PX = 11
"""Size of the text in pixels."""
THUMBNAIL_PX = 168
"""Largest width and height of a thumbnail in pixels."""
_LINE_HEIGHT_PX = 14
_GAP_PX = 8
_MAX_CHARACTERS = 200
"""Longer lines of text are cut before they are measured; far fewer fit under a thumbnail."""
_ELLIPSIS = "..."


class ContactSheet:
    """An image to which thumbnails with captions are added, row by row.

    Only the sheet itself and the image that is being added are in memory.
    """

    def __init__(
        self, count: int, columns: int, caption_lines: int, font: Font | None = None
    ) -> None:
        """Create an empty white sheet.

        Args:
            count: Number of images that will be added, at least 1.
            columns: Largest number of images in a row.
            caption_lines: Number of lines of text below each image.
            font: The font of the captions, of `FONT_PX` pixels; Pillow's own font, which has only
                Latin letters, if None.
        """
        self._columns = min(count, columns)
        self._cell_width_px = THUMBNAIL_PX + _GAP_PX
        self._cell_height_px = THUMBNAIL_PX + caption_lines * _LINE_HEIGHT_PX + 2 * _GAP_PX
        rows = math.ceil(count / self._columns)
        size = (
            self._columns * self._cell_width_px + _GAP_PX,
            rows * self._cell_height_px + _GAP_PX,
        )
        self._sheet = Image.new("RGB", size, "white")
        self._pen = ImageDraw.Draw(self._sheet)
        self._font = font or ImageFont.load_default(FONT_PX)
        self._added_count = 0

    def add(self, image: Image.Image, caption: Sequence[str]) -> None:
        """Draw the next image and its caption.

        Args:
            image: An RGB image of any size. It is resized in place.
            caption: The lines of text below it. They are drawn as plain text; control characters
                are shown as codes, and a line that is too long is cut.
        """
        row, column = divmod(self._added_count, self._columns)
        self._added_count += 1
        x, y = _GAP_PX + column * self._cell_width_px, _GAP_PX + row * self._cell_height_px
        thumbnail = _fit_image(image)
        left = (THUMBNAIL_PX - thumbnail.width) // 2
        top = (THUMBNAIL_PX - thumbnail.height) // 2
        self._sheet.paste(thumbnail, (x + left, y + top))
        for line_number, line in enumerate(caption):
            line_y = y + THUMBNAIL_PX + 1 + _LINE_HEIGHT_PX * line_number
            text = fit_text(line, self._font, THUMBNAIL_PX)
            self._pen.text((x, line_y), text, fill="black", font=self._font)

    def encode_png(self) -> bytes:
        """Return the sheet as the bytes of a PNG file."""
        encoded = io.BytesIO()
        self._sheet.save(encoded, "PNG")
        return encoded.getvalue()


def fit_text(line: str, font: Font, width_px: float) -> str:
    """Cut a line of text to a width.

    Args:
        line: The text.
        font: The font in which it is drawn.
        width_px: The width in pixels.

    Returns:
        The text without control characters, with "..." at its end if it was too long.
    """
    text = escape_text(line)[:_MAX_CHARACTERS]
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + _ELLIPSIS) > width_px:
        text = text[:-1]
    return text + _ELLIPSIS


def _fit_image(image: Image.Image) -> Image.Image:
    """Resize an image so that its longer side is that of a thumbnail."""
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))  # never enlarges
    scale = THUMBNAIL_PX / max(image.size)
    if scale == 1:
        return image
    return image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))),
        Image.Resampling.BICUBIC,
    )
