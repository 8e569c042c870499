"""How many images quantization uses, and how many of them pass through the network together.

An image of 1024 x 1024 pixels takes 21 times as much time and memory as one of 224 x 224, and has
as many more tokens from which ranges can be learned. The usual numbers of images hold up to
512 x 512 pixels, and the usual batch up to 256 x 256: attention in large windows needs much memory.
"""

from __future__ import annotations

BATCH_SIZE = 8
"""Number of images of up to 256 x 256 pixels that pass through the network together."""

_BATCH_PIXELS = BATCH_SIZE * 256**2
"""Largest number of pixels of a batch."""

_USUAL_PIXELS = 512**2
"""Largest number of pixels of an image for which the usual numbers hold."""


def choose_batch_size(height: int, width: int) -> int:
    """Return how many images pass through the network together.

    Args:
        height: Height of the images in pixels.
        width: Width of the images in pixels.

    Returns:
        `BATCH_SIZE`, or fewer for images of more than 256 x 256 pixels; at least 1.
    """
    return max(1, min(BATCH_SIZE, _BATCH_PIXELS // (height * width)))


def scale_image_count(count: int, height: int, width: int) -> int:
    """Reduce a number of images if they are large.

    Args:
        count: Number of images of up to 512 x 512 pixels.
        height: Height of the images in pixels.
        width: Width of the images in pixels.

    Returns:
        `count`, or as many images as have the same number of pixels as `count` of 512 x 512.
    """
    return min(count, count * _USUAL_PIXELS // (height * width))
