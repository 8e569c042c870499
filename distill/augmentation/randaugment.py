"""RandAugment on Pillow, as the paper's recipe has it: "rand-m9-mstd0.5-inc1" of timm (timm/data/auto_augment.py).

Two of fifteen operations, each done with probability 0.5 and a strength drawn about 9 of 10; "inc" means that a larger strength is
always the larger change. Strengths and ranges are timm's, and sizes are shares of the picture, so that a view at another size is the
same view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

LEVELS = 10.0
PROBABILITY = 0.5
GRAY = (124, 116, 104)
"""ImageNet's mean, for corners that a turn uncovers."""
_FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class Draw:
    """What one operation needs besides the picture: its strength, 0 to 1, a sign, and how to resample."""

    strength: float
    sign: int
    taps: Image.Resampling


Operation = Callable[[Image.Image, Draw], Image.Image]


def rand_augment(
    image: Image.Image,
    random: np.random.RandomState,
    count: int,
    magnitude: float,
    deviation: float,
) -> Image.Image:
    """`count` operations, with replacement, on an RGB picture; magnitude and deviation: of the strength, in levels of 0 to 10."""
    for index in random.randint(len(OPERATIONS), size=count):
        wanted, sign, taps = (
            random.random_sample(),
            random.randint(2),
            random.randint(len(_FILTERS)),
        )
        level = min(max(random.normal(magnitude, deviation), 0.0), LEVELS)
        if wanted < PROBABILITY:
            image = OPERATIONS[index](image, Draw(level / LEVELS, 2 * sign - 1, _FILTERS[taps]))
    return image


def _affine(
    image: Image.Image, matrix: tuple[float, float, float, float, float, float], draw: Draw
) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, draw.taps, fillcolor=GRAY)


def _shear_x(image: Image.Image, draw: Draw) -> Image.Image:
    return _affine(image, (1, 0.3 * draw.strength * draw.sign, 0, 0, 1, 0), draw)


def _shear_y(image: Image.Image, draw: Draw) -> Image.Image:
    return _affine(image, (1, 0, 0, 0.3 * draw.strength * draw.sign, 1, 0), draw)


def _translate_x(image: Image.Image, draw: Draw) -> Image.Image:
    return _affine(image, (1, 0, 0.45 * draw.strength * draw.sign * image.width, 0, 1, 0), draw)


def _translate_y(image: Image.Image, draw: Draw) -> Image.Image:
    return _affine(image, (1, 0, 0, 0, 1, 0.45 * draw.strength * draw.sign * image.height), draw)


def _rotate(image: Image.Image, draw: Draw) -> Image.Image:
    return image.rotate(30 * draw.strength * draw.sign, draw.taps, fillcolor=GRAY)


def _posterize(image: Image.Image, draw: Draw) -> Image.Image:
    bits = 4 - int(4 * draw.strength)
    return (
        ImageOps.posterize(image, bits) if bits else Image.new("RGB", image.size)
    )  # Pillow refuses what timm does: no bit left is black


def _solarize(image: Image.Image, draw: Draw) -> Image.Image:
    return ImageOps.solarize(image, 256 - int(256 * draw.strength))


def _solarize_add(image: Image.Image, draw: Draw) -> Image.Image:
    added = min(128, int(110 * draw.strength))
    return image.point(
        [min(255, level + added) if level < 128 else level for level in range(256)] * 3
    )


def _enhanced(enhancer: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    def enhance(image: Image.Image, draw: Draw) -> Image.Image:
        return enhancer(image).enhance(max(0.1, 1 + 0.9 * draw.strength * draw.sign))

    return enhance


OPERATIONS: tuple[Operation, ...] = (
    lambda image, _: ImageOps.autocontrast(image),
    lambda image, _: ImageOps.equalize(image),
    lambda image, _: ImageOps.invert(image),
    _rotate,
    _posterize,
    _solarize,
    _solarize_add,
    _enhanced(ImageEnhance.Color),
    _enhanced(ImageEnhance.Contrast),
    _enhanced(ImageEnhance.Brightness),
    _enhanced(ImageEnhance.Sharpness),
    _shear_x,
    _shear_y,
    _translate_x,
    _translate_y,
)
