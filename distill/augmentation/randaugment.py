"""RandAugment on Pillow images, with the paper's settings.

The settings are timm's "rand-m9-mstd0.5-inc1" (timm/data/auto_augment.py): two of fifteen
operations, each applied with probability 0.5. The magnitude of each is drawn from a normal
distribution with mean 9 and standard deviation 0.5, and clipped to 0 to 10. "inc" means that a
larger magnitude always changes the image more. The ranges of the operations are timm's. Distances
are fractions of the image size, so that a view has the same content at every resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

MAX_MAGNITUDE = 10.0
OPERATION_PROBABILITY = 0.5
FILL_COLOR = (124, 116, 104)
"""The mean color of ImageNet as RGB, 0 to 255. It fills areas outside the original image."""

_RESAMPLING_FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
_AffineMatrix = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class OperationParameters:
    """The random parameters of one operation.

    Attributes:
        strength: The magnitude divided by 10, 0 to 1.
        sign: Direction of the change, -1 or 1.
        resampling: Filter for geometric operations.
    """

    strength: float
    sign: int
    resampling: Image.Resampling

    @property
    def signed_strength(self) -> float:
        """The strength multiplied by the sign, -1 to 1."""
        return self.strength * self.sign


Operation = Callable[[Image.Image, OperationParameters], Image.Image]


def rand_augment(
    image: Image.Image,
    random: np.random.RandomState,
    count: int,
    magnitude: float,
    deviation: float,
) -> Image.Image:
    """Apply random operations to an image.

    Args:
        image: An RGB image.
        random: Source of all randomness.
        count: Number of operations, drawn with replacement.
        magnitude: Mean magnitude of the operations, 0 to 10.
        deviation: Standard deviation of the magnitude.

    Returns:
        The changed image, RGB, of the same size.
    """
    for index in random.randint(len(OPERATIONS), size=count):
        probability = random.random_sample()
        sign = random.randint(2)
        resampling = _RESAMPLING_FILTERS[random.randint(len(_RESAMPLING_FILTERS))]
        drawn = min(max(random.normal(magnitude, deviation), 0.0), MAX_MAGNITUDE)
        if probability < OPERATION_PROBABILITY:
            parameters = OperationParameters(drawn / MAX_MAGNITUDE, 2 * sign - 1, resampling)
            image = OPERATIONS[index](image, parameters)
    return image


def _auto_contrast(image: Image.Image, _: OperationParameters) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, _: OperationParameters) -> Image.Image:
    return ImageOps.equalize(image)


def _invert(image: Image.Image, _: OperationParameters) -> Image.Image:
    return ImageOps.invert(image)


def _transform(
    image: Image.Image, matrix: _AffineMatrix, parameters: OperationParameters
) -> Image.Image:
    """Apply an affine matrix, which maps output coordinates to input coordinates in pixels."""
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        matrix,
        parameters.resampling,
        fillcolor=FILL_COLOR,
    )


def _shear_x(image: Image.Image, parameters: OperationParameters) -> Image.Image:
    return _transform(image, (1, 0.3 * parameters.signed_strength, 0, 0, 1, 0), parameters)


def _shear_y(image: Image.Image, parameters: OperationParameters) -> Image.Image:
    return _transform(image, (1, 0, 0, 0.3 * parameters.signed_strength, 1, 0), parameters)


def _translate_x(image: Image.Image, parameters: OperationParameters) -> Image.Image:
    shift = 0.45 * parameters.signed_strength * image.width
    return _transform(image, (1, 0, shift, 0, 1, 0), parameters)


def _translate_y(image: Image.Image, parameters: OperationParameters) -> Image.Image:
    shift = 0.45 * parameters.signed_strength * image.height
    return _transform(image, (1, 0, 0, 0, 1, shift), parameters)


def _rotate(image: Image.Image, parameters: OperationParameters) -> Image.Image:
    degrees = 30 * parameters.signed_strength
    return image.rotate(degrees, parameters.resampling, fillcolor=FILL_COLOR)


def _posterize(image: Image.Image, parameters: OperationParameters) -> Image.Image:
    bits = 4 - int(4 * parameters.strength)
    # timm allows 0 bits, which gives a black image; Pillow raises an error.
    return ImageOps.posterize(image, bits) if bits else Image.new("RGB", image.size)


def _solarize(image: Image.Image, parameters: OperationParameters) -> Image.Image:
    return ImageOps.solarize(image, 256 - int(256 * parameters.strength))


def _solarize_add(image: Image.Image, parameters: OperationParameters) -> Image.Image:
    increment = min(128, int(110 * parameters.strength))
    table = [min(255, level + increment) if level < 128 else level for level in range(256)]
    return image.point(table * 3)


def _make_enhancement(enhancer: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    """Return an operation that scales one property of an image by a factor from 0.1 to 1.9."""

    def enhance(image: Image.Image, parameters: OperationParameters) -> Image.Image:
        return enhancer(image).enhance(max(0.1, 1 + 0.9 * parameters.signed_strength))

    return enhance


# Seeds select operations by index, so another order would give other views for the same seed.
OPERATIONS: tuple[Operation, ...] = (
    _auto_contrast,
    _equalize,
    _invert,
    _rotate,
    _posterize,
    _solarize,
    _solarize_add,
    _make_enhancement(ImageEnhance.Color),
    _make_enhancement(ImageEnhance.Contrast),
    _make_enhancement(ImageEnhance.Brightness),
    _make_enhancement(ImageEnhance.Sharpness),
    _shear_x,
    _shear_y,
    _translate_x,
    _translate_y,
)
"""The operations that `rand_augment` draws from."""
