"""Applies RandAugment to Pillow images, as timm's "rand-m9-mstd0.5-inc1" does for bicubic images.

The paper uses these settings: two of fifteen operations are drawn for each image, and each is
applied with probability 0.5. The magnitude of each operation is drawn from a normal distribution
with mean 9 and standard deviation 0.5, and limited to 0 to 10. "inc1" selects those variants of the
operations that change the image more if the magnitude is larger. Operations that move pixels
interpolate bicubically, as in the paper's code, which passes its interpolation on to timm. The
ranges of the operations are timm's (timm/data/auto_augment.py), but distances are fractions of the
image size, so that a view has the same content at every resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

MAX_MAGNITUDE = 10.0
"""The largest magnitude of an operation; the smallest is 0."""
OPERATION_PROBABILITY = 0.5
"""Probability that an operation is applied after it was drawn."""
FILL_COLOR = (124, 116, 104)
"""The mean color of ImageNet as RGB, 0 to 255. Operations that move pixels fill the areas outside
the original image with it."""

# The effect of each operation at `MAX_MAGNITUDE`.
_MAX_SHEAR = 0.3
"""Shift of a row (or column) relative to the next one, in pixels."""
_MAX_SHIFT = 0.45
"""Fraction of the image's width or height."""
_MAX_ROTATION_DEGREES = 30
_MAX_ADDED_LEVEL = 110
"""Number that `_solarize_add` adds to dark levels."""
_MAX_ENHANCEMENT = 0.9
"""Difference between the factor of an enhancement and 1. The factor 1 leaves the image unchanged.
"""

_MAX_KEPT_BITS = 4
"""Number of bits of each color value that posterizing keeps at magnitude 0. At `MAX_MAGNITUDE`, it
keeps none."""

_LEVELS = 256
"""Number of values (levels) that a color value of a pixel can have."""
_MIDDLE_LEVEL = 128
"""Levels below this one are dark for `_solarize_add`."""
_AffineMatrix = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class OperationParameters:
    """The random parameters of one operation.

    Attributes:
        strength: The magnitude divided by `MAX_MAGNITUDE`, 0 to 1.
        sign: Direction of the change, -1 or 1.
    """

    strength: float
    sign: int

    @property
    def signed_strength(self) -> float:
        """Return the strength multiplied by the sign, -1 to 1."""
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
        count: Number of operations to draw. The same operation may be drawn more than once.
        magnitude: Mean magnitude of the operations, 0 to 10.
        deviation: Standard deviation of the magnitude.

    Returns:
        The changed image, RGB, of the same size.
    """
    for index in random.randint(len(OPERATIONS), size=count):
        # All numbers are drawn even for an operation that is not applied, so that the random
        # numbers of later operations do not depend on whether this one is applied.
        is_applied = random.random_sample() < OPERATION_PROBABILITY
        sign = 2 * random.randint(2) - 1
        drawn_magnitude = min(max(random.normal(magnitude, deviation), 0.0), MAX_MAGNITUDE)
        if is_applied:
            parameters = OperationParameters(drawn_magnitude / MAX_MAGNITUDE, sign)
            image = OPERATIONS[index](image, parameters)
    return image


def _auto_contrast(image: Image.Image, _: OperationParameters) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, _: OperationParameters) -> Image.Image:
    return ImageOps.equalize(image)


def _invert(image: Image.Image, _: OperationParameters) -> Image.Image:
    return ImageOps.invert(image)


def _transform(image: Image.Image, matrix: _AffineMatrix) -> Image.Image:
    """Apply an affine matrix, which maps output coordinates to input coordinates in pixels."""
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        matrix,
        Image.Resampling.BICUBIC,
        fillcolor=FILL_COLOR,
    )


def _shear_x(image: Image.Image, parameters: OperationParameters) -> Image.Image:
    shear = _MAX_SHEAR * parameters.signed_strength
    return _transform(image, (1, shear, 0, 0, 1, 0))


def _shear_y(image: Image.Image, parameters: OperationParameters) -> Image.Image:
    shear = _MAX_SHEAR * parameters.signed_strength
    return _transform(image, (1, 0, 0, shear, 1, 0))


def _translate_x(image: Image.Image, parameters: OperationParameters) -> Image.Image:
    shift = _MAX_SHIFT * parameters.signed_strength * image.width
    return _transform(image, (1, 0, shift, 0, 1, 0))


def _translate_y(image: Image.Image, parameters: OperationParameters) -> Image.Image:
    shift = _MAX_SHIFT * parameters.signed_strength * image.height
    return _transform(image, (1, 0, 0, 0, 1, shift))


def _rotate(image: Image.Image, parameters: OperationParameters) -> Image.Image:
    degrees = _MAX_ROTATION_DEGREES * parameters.signed_strength
    return image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=FILL_COLOR)


def _posterize(image: Image.Image, parameters: OperationParameters) -> Image.Image:
    kept_bits = _MAX_KEPT_BITS - int(_MAX_KEPT_BITS * parameters.strength)
    # Older versions of Pillow return a black image for 0 bits, and newer ones raise an error.
    if kept_bits == 0:
        return Image.new("RGB", image.size)
    return ImageOps.posterize(image, kept_bits)


def _solarize(image: Image.Image, parameters: OperationParameters) -> Image.Image:
    """Invert all levels at and above a threshold."""
    return ImageOps.solarize(image, threshold=_LEVELS - int(_LEVELS * parameters.strength))


def _solarize_add(image: Image.Image, parameters: OperationParameters) -> Image.Image:
    """Make all dark levels brighter by the same amount."""
    increment = int(_MAX_ADDED_LEVEL * parameters.strength)
    brighter_levels = [level + increment for level in range(_MIDDLE_LEVEL)]
    unchanged_levels = list(range(_MIDDLE_LEVEL, _LEVELS))
    table = brighter_levels + unchanged_levels
    return image.point(table * 3)  # one table for each of red, green and blue


def _make_enhancement(enhancer: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    """Return an operation that scales one property of an image by a factor from 0.1 to 1.9."""

    def enhance(image: Image.Image, parameters: OperationParameters) -> Image.Image:
        # Rounding must not make the factor smaller than timm's smallest one, 0.1.
        factor = max(0.1, 1 + _MAX_ENHANCEMENT * parameters.signed_strength)
        return enhancer(image).enhance(factor)

    return enhance


# Random numbers select operations by index, so another order would give other views for a seed.
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
"""The operations that `rand_augment` chooses from."""
