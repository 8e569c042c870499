"""Draws random crops, and erases random boxes."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tinyvit.distill.augmentation.settings import Augmentation

ERASED_AREA = (0.02, 1 / 3)
"""Smallest and largest area of the erased box, as a fraction of the view (timm/data/
random_erasing.py)."""
ERASED_RATIO = (0.3, 1 / 0.3)
"""Smallest and largest aspect ratio (height / width) of the erased box (the same file)."""
_MAX_ATTEMPTS = 10
"""Largest number of boxes that are drawn to find one that fits, as in torchvision and timm."""

Pixels = npt.NDArray[np.uint8]
CropBox = tuple[float, float, float, float]
"""The edges (left, top, right, bottom) of a crop in pixels of the image, not rounded."""


def draw_crop(
    random: np.random.RandomState, width: int, height: int, augmentation: Augmentation
) -> CropBox:
    """Draw a crop like torchvision's RandomResizedCrop.

    If none of ten random boxes fits into the image, the result is the largest box in the center of
    the image whose aspect ratio is allowed.

    Args:
        random: Source of all randomness.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        augmentation: The settings; only `scale` and `ratio` are used.
    """
    smallest_ratio, largest_ratio = augmentation.ratio
    log_ratios = math.log(smallest_ratio), math.log(largest_ratio)
    for _ in range(_MAX_ATTEMPTS):
        area = random.uniform(*augmentation.scale)
        ratio = math.exp(random.uniform(*log_ratios))
        # Widths, heights and positions are fractions of the image.
        crop_width = math.sqrt(area * ratio * height / width)
        crop_height = math.sqrt(area / ratio * width / height)
        if crop_width <= 1 and crop_height <= 1:
            left = random.random_sample() * (1 - crop_width)
            top = random.random_sample() * (1 - crop_height)
            return (
                left * width,
                top * height,
                (left + crop_width) * width,
                (top + crop_height) * height,
            )
    ratio = min(max(width / height, smallest_ratio), largest_ratio)
    crop_width = min(1.0, ratio * height / width)
    crop_height = min(1.0, width / height / ratio)
    return (
        (1 - crop_width) / 2 * width,
        (1 - crop_height) / 2 * height,
        (1 + crop_width) / 2 * width,
        (1 + crop_height) / 2 * height,
    )


def erase_box(pixels: Pixels, random: np.random.RandomState) -> None:
    """Cover a random box with noise: a random color for each pixel (timm's mode "pixel").

    timm's noise is normally distributed. Uniform bytes are used here, because they need no
    floating-point arithmetic, whose rounding could differ between machines. If none of ten random
    boxes fits, nothing is erased.

    Args:
        pixels: A square view, uint8 (size, size, 3), which is changed in place.
        random: Source of all randomness.
    """
    size = len(pixels)
    log_ratios = math.log(ERASED_RATIO[0]), math.log(ERASED_RATIO[1])
    for _ in range(_MAX_ATTEMPTS):
        area = random.uniform(*ERASED_AREA)
        ratio = math.exp(random.uniform(*log_ratios))
        height_fraction, width_fraction = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if height_fraction < 1 and width_fraction < 1:
            height = max(1, round(size * height_fraction))
            width = max(1, round(size * width_fraction))
            top = int(random.random_sample() * (size - height))
            left = int(random.random_sample() * (size - width))
            noise = np.frombuffer(random.bytes(height * width * 3), np.uint8)
            pixels[top : top + height, left : left + width] = noise.reshape(height, width, 3)
            return
