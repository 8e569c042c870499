"""Resizes images with Pillow, with the same result in every Pillow version."""

from __future__ import annotations

from PIL import Image

from tinyvit.image_sizes import ImageSize, height_and_width

TALL_ASPECT_RATIO = 16
"""Images whose height is more than this many times their width are resized vertically first, which
saves memory. All other images are resized horizontally first."""


def resample_image(
    image: Image.Image,
    size: ImageSize,
    resampling: Image.Resampling,
    box: tuple[float, float, float, float],
) -> Image.Image:
    """Resize a part of an image, with the same result in every Pillow version.

    Pillow resizes in a horizontal and a vertical pass. Each pass rounds to 8 bits, so the order of
    the passes affects the result. Versions before 13 do the horizontal pass first; version 13
    chooses the cheaper order, which depends on the box. To fix the order, this function calls
    Pillow once per pass: horizontal first, except for very tall images (see TALL_ASPECT_RATIO).

    Args:
        image: A Pillow image of mode RGB.
        size: Size of the result in pixels.
        resampling: Pillow's resampling filter.
        box: Left, top, right and bottom edge of the part in pixels of `image`, not always whole.

    Returns:
        The resized part of the image.
    """
    left, top, right, bottom = box
    height, width = height_and_width(size)
    if image.height > TALL_ASPECT_RATIO * image.width:
        image = image.resize((image.width, height), resampling, box=(0, top, image.width, bottom))
        return image.resize((width, height), resampling, box=(left, 0, right, height))
    image = image.resize((width, image.height), resampling, box=(left, 0, right, image.height))
    return image.resize((width, height), resampling, box=(0, top, width, bottom))
