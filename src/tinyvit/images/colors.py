"""Converts decoded images of any mode to RGB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tinyvit.errors import ImageError

_BLOCK_PIXELS = 2**22
"""Number of pixels that are converted at a time if the conversion needs several copies."""

_LOW_GRAY_FACTORS = {"L;2": 255 // 3, "L;4": 255 // 15}
"""Factor from 2-bit and 4-bit gray values to 8-bit values, by Pillow's raw mode."""


def convert_to_rgb(image: Image.Image, raw_mode: object, name: str) -> Image.Image:
    """Convert a decoded image of any mode to RGB.

    Args:
        image: The image.
        raw_mode: The pixel format in the file, in Pillow's notation; None if it is not known.
        name: Description of the image, for error messages.

    Returns:
        The image on a white background. It may have the metadata of the original one.

    Raises:
        ImageError: The pixels cannot be represented in 8 bits.
    """
    if image.mode == "F":
        raise ImageError(
            f"{name} has floating-point pixels, whose range is unknown", "convert it to 8 bits"
        )
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _scale_16_bits(image, name)
    if not image.has_transparency_data:
        return image.convert("RGB")
    # The gray value or the color (tuple) whose pixels are transparent, or, for a palette image, its
    # index or the opacity of each color (bytes).
    transparent = image.info.get("transparency")
    if isinstance(transparent, int) and raw_mode in _LOW_GRAY_FACTORS:
        # Pillow scales 2-bit and 4-bit gray values to 8 bits, but not the transparent value.
        image = image.copy()
        image.info["transparency"] = transparent * _LOW_GRAY_FACTORS[raw_mode]
    elif isinstance(transparent, tuple) and raw_mode == "RGB;16B":
        raise ImageError(
            f"{name} has 16-bit colors, one of which is transparent", "convert it to 8 bits"
        )
    return _convert_in_blocks(image, _put_on_white)


def _put_on_white(image: Image.Image) -> Image.Image:
    """Convert an image of any mode with transparent parts to RGB."""
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _convert_in_blocks(
    image: Image.Image, convert: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Convert an image to RGB by blocks of rows, so that large ones do not need several copies."""
    row_count = max(_BLOCK_PIXELS // max(image.width, 1), 1)
    if row_count >= image.height:
        return convert(image)
    rgb = Image.new("RGB", image.size)
    for top in range(0, image.height, row_count):
        bottom = min(top + row_count, image.height)
        block = image.crop((0, top, image.width, bottom))
        rgb.paste(convert(block), (0, top))
    return rgb


def _scale_16_bits(image: Image.Image, name: str) -> Image.Image:
    """Convert 16-bit gray values to RGB, rounding to the nearest of 256 levels."""
    if image.mode == "I":
        extrema: Any = image.getextrema()
        low, high = map(int, extrema)
        if low < 0 or high > 65535:
            raise ImageError(
                f"{name} has gray values from {low} to {high}, beyond 16 bits",
                "convert it to 8 bits",
            )
    return _convert_in_blocks(image, _scale_block)


def _scale_block(image: Image.Image) -> Image.Image:
    """Convert 16-bit gray values, from 0 to 65535, to RGB."""
    values = np.asarray(image).astype(np.int64)
    gray = ((values * 255 + 32767) // 65535).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        gray[values == transparent] = 255  # white
    return Image.fromarray(gray).convert("RGB")
