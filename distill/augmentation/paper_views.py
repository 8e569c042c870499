"""Makes the views that the paper's code makes from a seed.

The rules are those of microsoft/Cream (TinyViT/data/augmentation), which draws all random numbers
of a view from one PCG64 generator, except the noise of random erasing, whose seed is drawn from it.
So the seed in each record of the paper's logit files determines the whole view. The pixels are
those of Pillow versions before 13, which the paper used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinyvit.distill.augmentation.crop_and_erase import ERASED_AREA, ERASED_RATIO
from tinyvit.distill.augmentation.randaugment import (
    MAX_MAGNITUDE,
    OPERATION_PROBABILITY,
    OPERATIONS,
    OperationParameters,
)
from tinyvit.images.resampling import resample_image

_CROP_AREA = (0.08, 1.0)
_CROP_RATIO = (3 / 4, 4 / 3)
_FLIP_PROBABILITY = 0.5
_OPERATION_COUNT = 2
_MAGNITUDE, _DEVIATION = 9, 0.5
_ERASING_PROBABILITY = 0.25
_MAX_ATTEMPTS = 10
"""Largest number of boxes that are drawn to find one that fits."""
_REFERENCE_SIZE = 224
"""Width and height in pixels of the image on which the erased box is drawn."""
_MAX_NOISE_SEED = 2**30
_SIGNED_OPERATIONS = frozenset({3, 7, 8, 9, 10, 11, 12, 13, 14})
"""Indices of the operations with a random direction. The others draw no number for it."""


@dataclass(frozen=True)
class Erasure:
    """A box of normally distributed noise, which covers a part of a normalized image.

    Attributes:
        top: First row of the box.
        left: First column of the box.
        noise: The noise, float32 (3, height, width), in units of normalized pixels.
    """

    top: int
    left: int
    noise: npt.NDArray[np.float32]


class _ViewRandom:
    """The random numbers of one view."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def draw_fraction(self) -> float:
        """Return a number from 0 to 1, 1 excluded."""
        return float(self._generator.random())

    def draw_uniform(self, low: float, high: float) -> float:
        return self.draw_fraction() * (high - low) + low

    def draw_integer(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`, both included."""
        return min(int(self.draw_fraction() * (high - low + 1)) + low, high)

    def draw_normal(self, mean: float, deviation: float) -> float:
        return float(self._generator.normal(mean, deviation))

    def draw_indices(self, limit: int, count: int) -> list[int]:
        """Return `count` independent numbers below `limit`."""
        return [int(index) for index in self._generator.choice(limit, count)]


def make_paper_view(
    image: Image.Image, seed: int, size: int
) -> tuple[npt.NDArray[np.uint8], Erasure | None]:
    """Make a view.

    Args:
        image: An RGB image.
        seed: Seed of the view, at least 0.
        size: Width and height of the view in pixels.

    Returns:
        (pixels, erasure): uint8 (size, size, 3), and the noise to put over the normalized pixels;
        None without random erasing.
    """
    random = _ViewRandom(seed)
    left, top, width, height = _draw_crop(random, image.width, image.height)
    image = image.crop((left, top, left + width, top + height))
    box = (0.0, 0.0, float(width), float(height))
    image = resample_image(image, size, Image.Resampling.BICUBIC, box)
    if random.draw_fraction() < _FLIP_PROBABILITY:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = _apply_operations(image, random)
    return np.array(image), _draw_erasure(random, size)


def _draw_crop(random: _ViewRandom, width: int, height: int) -> tuple[int, int, int, int]:
    """Return the left and top edge, the width and the height of a random crop in whole pixels."""
    log_ratios = math.log(_CROP_RATIO[0]), math.log(_CROP_RATIO[1])
    for _ in range(_MAX_ATTEMPTS):
        area = random.draw_uniform(*_CROP_AREA) * (width * height)
        ratio = math.exp(random.draw_uniform(*log_ratios))
        # The paper's code cannot crop an image of so few pixels that a side is rounded to 0.
        crop_width = max(1, round(math.sqrt(area * ratio)))
        crop_height = max(1, round(math.sqrt(area / ratio)))
        if crop_width <= width and crop_height <= height:
            top = random.draw_integer(0, height - crop_height)
            left = random.draw_integer(0, width - crop_width)
            return left, top, crop_width, crop_height
    smallest_ratio, largest_ratio = _CROP_RATIO
    crop_width, crop_height = width, height
    if width / height < smallest_ratio:
        crop_height = round(width / smallest_ratio)
    elif width / height > largest_ratio:
        crop_width = round(height * largest_ratio)
    return (width - crop_width) // 2, (height - crop_height) // 2, crop_width, crop_height


def _apply_operations(image: Image.Image, random: _ViewRandom) -> Image.Image:
    """Apply RandAugment. Operations that are skipped draw no further numbers."""
    for index in random.draw_indices(len(OPERATIONS), _OPERATION_COUNT):
        if random.draw_fraction() > OPERATION_PROBABILITY:
            continue
        drawn_magnitude = random.draw_normal(_MAGNITUDE, _DEVIATION)
        magnitude = max(0.0, min(drawn_magnitude, MAX_MAGNITUDE))
        is_negative = index in _SIGNED_OPERATIONS and random.draw_fraction() > 0.5
        parameters = OperationParameters(magnitude / MAX_MAGNITUDE, -1 if is_negative else 1)
        image = OPERATIONS[index](image, parameters)
    return image


def _draw_erasure(random: _ViewRandom, size: int) -> Erasure | None:
    """Return a random box of noise; None if nothing is erased."""
    if random.draw_fraction() > _ERASING_PROBABILITY:
        return None
    log_ratios = math.log(ERASED_RATIO[0]), math.log(ERASED_RATIO[1])
    for _ in range(_MAX_ATTEMPTS):
        area = random.draw_uniform(*ERASED_AREA) * _REFERENCE_SIZE**2
        ratio = math.exp(random.draw_uniform(*log_ratios))
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if width < _REFERENCE_SIZE and height < _REFERENCE_SIZE:
            reference_top = random.draw_integer(0, _REFERENCE_SIZE - height)
            reference_left = random.draw_integer(0, _REFERENCE_SIZE - width)
            top, height = _scale_to_size(reference_top, height, size)
            left, width = _scale_to_size(reference_left, width, size)
            seed = random.draw_integer(0, _MAX_NOISE_SEED)
            generator = np.random.Generator(np.random.MT19937(seed))
            noise = generator.normal(size=(3, height, width)).astype(np.float32)
            return Erasure(top, left, noise)
    return None


def _scale_to_size(start: int, length: int, size: int) -> tuple[int, int]:
    """Scale the start and the length of one side of a box from the reference size to `size`."""
    scaled_start = min(round(start * size / _REFERENCE_SIZE), size - 1)
    return scaled_start, min(round(length * size / _REFERENCE_SIZE), size - scaled_start)
