"""Makes views (augmented versions) of images.

A view is cropped, flipped, changed by RandAugment and random erasing, and optionally mixed with
another image (Mixup or CutMix). Its pixels depend only on the data set, the settings, the index of
the image, a seed and a size. Random numbers come from numpy's RandomState, whose streams numpy
keeps stable (NEP 19). Pillow computes the pixels, and its results do not depend on the processor.
So a teacher and a student on different machines see the same pixels. `hash_probe_views` detects
exceptions, such as another version of Pillow.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, features

from tinyvit.distill.augmentation.randaugment import rand_augment
from tinyvit.errors import RequestError
from tinyvit.preprocess import resample_image

VERSION = 2
"""Version of the augmentation code. It changes when the same seed gives another view, for example
because random numbers are drawn in another order. Stores of another version are refused."""
PROBE_VIEW_COUNT = 8
"""Number of views that are hashed to compare the augmentation of two machines."""
ERASED_AREA = (0.02, 1 / 3)
"""Smallest and largest fraction of a view that random erasing covers. The erased box has an aspect
ratio from 0.3 to 1/0.3 (timm/data/random_erasing.py)."""
_MAX_ATTEMPTS = 10

OpenImage = Callable[[int], Image.Image]
"""A function that decodes the image with a given index as RGB."""
Pixels = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Augmentation:
    """Augmentation settings; the defaults are the paper's (microsoft/Cream, TinyViT/config.py).

    Attributes:
        scale: Smallest and largest area of the random crop, as a fraction of the image.
        ratio: Smallest and largest aspect ratio (width / height) of the crop.
        flip: Probability of a horizontal flip.
        operations: Number of RandAugment operations, 0 to 10; 0 turns RandAugment off.
        magnitude: Mean magnitude of the RandAugment operations, 0 to 10.
        deviation: Standard deviation of that magnitude.
        erase: Probability of random erasing.
        mixup: Alpha of Mixup's Beta distribution; 0 turns Mixup off.
        cutmix: Alpha of CutMix's Beta distribution; 0 turns CutMix off. If both are on, a
            view uses one of them, each with probability 0.5.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (0.75, 4 / 3)
    flip: float = 0.5
    operations: int = 2
    magnitude: float = 9.0
    deviation: float = 0.5
    erase: float = 0.25
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        is_valid = (
            0 < self.scale[0] <= self.scale[1] <= 1
            and 0 < self.ratio[0] <= self.ratio[1]
            and 0 <= self.flip <= 1
            and 0 <= self.erase <= 1
            and 0 <= self.operations <= 10
            and 0 <= self.magnitude <= 10
            and self.deviation >= 0
            and min(self.mixup, self.cutmix) >= 0
        )
        if not is_valid:
            raise RequestError(
                f"the augmentation settings are not valid: {self}",
                "scale, flip and erase must be between 0 and 1, operations and magnitude between "
                "0 and 10; ratio must be positive, and no value may be negative",
            )


@dataclass(frozen=True)
class View:
    """One augmented view of an image.

    Attributes:
        pixels: uint8 (size, size, 3), RGB.
        partner: Index of the image that was mixed in, or of the image itself without mixing.
        own_fraction: Fraction of the view that comes from the image itself, 0 to 1.
    """

    pixels: Pixels
    partner: int
    own_fraction: float


@dataclass(frozen=True)
class ViewSource:
    """The images of a data set, and the settings from which views of them are made.

    Attributes:
        open_image: Decodes the image with a given index, 0 to `image_count` - 1.
        image_count: Number of images.
        size: Side of the square views in pixels.
        augmentation: The augmentation settings.
    """

    open_image: OpenImage
    image_count: int
    size: int
    augmentation: Augmentation


def view_seed(store_seed: int, epoch: int, key: str, view: int) -> int:
    """Return the seed of one view.

    The seed is a hash of the arguments, so it is the same on every machine.

    Args:
        store_seed: Seed of the whole store or training run.
        epoch: Epoch, from 0.
        key: Key of the image: its path relative to the data set.
        view: Number of the view among those of this image and epoch, from 0.

    Returns:
        A seed from 0 to 2**31 - 1.
    """
    text = f"{store_seed}:{epoch}:{view}:{key}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little") & 0x7FFFFFFF


def make_view(source: ViewSource, index: int, seed: int) -> View:
    """Make one view of an image.

    Args:
        source: The images and the settings.
        index: Index of the image.
        seed: Seed of the view, see `view_seed`.

    Returns:
        The view.

    Raises:
        ImageError: An image cannot be decoded.
    """
    augmentation = source.augmentation
    random = np.random.RandomState(seed)
    methods = [
        (name, alpha)
        for name, alpha in (("mixup", augmentation.mixup), ("cutmix", augmentation.cutmix))
        if alpha > 0
    ]
    if not methods:
        image = source.open_image(index)
        return View(augment_image(image, random, source.size, augmentation), index, 1.0)
    # These numbers are drawn before any augmentation, because random erasing draws a number for
    # each pixel: drawn afterwards, the partner would depend on the size of the view.
    method, alpha = methods[random.randint(len(methods))]
    own_fraction = float(random.beta(alpha, alpha))
    partner = int(random.randint(source.image_count))
    center_x, center_y = random.random_sample(2)
    pixels, partner_pixels = (
        augment_image(
            source.open_image(number),
            np.random.RandomState(random.randint(2**31)),
            source.size,
            augmentation,
        )
        for number in (index, partner)
    )
    if method == "mixup":
        mixed, own_fraction = _mix(pixels, partner_pixels, own_fraction)
    else:
        mixed, own_fraction = _paste(pixels, partner_pixels, own_fraction, (center_x, center_y))
    return View(mixed, partner, own_fraction)


def augment_image(
    image: Image.Image, random: np.random.RandomState, size: int, augmentation: Augmentation
) -> Pixels:
    """Crop, flip and augment one image without mixing.

    Args:
        image: An RGB image.
        random: Source of all randomness.
        size: Side of the result in pixels.
        augmentation: The augmentation settings.

    Returns:
        uint8 (size, size, 3).
    """
    box = _draw_crop(random, image.width, image.height, augmentation)
    image = resample_image(image, size, Image.Resampling.BICUBIC, box)
    if random.random_sample() < augmentation.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = rand_augment(
        image, random, augmentation.operations, augmentation.magnitude, augmentation.deviation
    )
    pixels = np.array(image)
    return _erase(pixels, random) if random.random_sample() < augmentation.erase else pixels


def _mix(pixels: Pixels, partner_pixels: Pixels, own_fraction: float) -> tuple[Pixels, float]:
    """Blend two views in integers (Mixup, Zhang et al., 2018); return the own fraction too."""
    weight = round(256 * own_fraction)
    total = pixels.astype(np.uint16) * weight + partner_pixels.astype(np.uint16) * (256 - weight)
    return (total >> 8).astype(np.uint8), weight / 256


def _paste(
    pixels: Pixels, partner_pixels: Pixels, own_fraction: float, center: tuple[float, float]
) -> tuple[Pixels, float]:
    """Paste a box of the partner (CutMix, Yun et al., 2019); return the own fraction too."""
    size = len(pixels)
    half_side = math.sqrt(1 - own_fraction) / 2
    x, y = center
    left, top, right, bottom = (
        round(size * min(max(edge, 0), 1))
        for edge in (x - half_side, y - half_side, x + half_side, y + half_side)
    )
    pixels = pixels.copy()
    pixels[top:bottom, left:right] = partner_pixels[top:bottom, left:right]
    return pixels, 1 - (right - left) * (bottom - top) / size**2


def _draw_crop(
    random: np.random.RandomState, width: int, height: int, augmentation: Augmentation
) -> Box:
    """Draw a crop like torchvision's RandomResizedCrop: after ten misses, a center crop.

    Returns:
        (left, top, right, bottom) in pixels.
    """
    low, high = (math.log(ratio) for ratio in augmentation.ratio)
    for _ in range(_MAX_ATTEMPTS):
        area = random.uniform(*augmentation.scale)
        ratio = math.exp(random.uniform(low, high))
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
    ratio = min(max(width / height, augmentation.ratio[0]), augmentation.ratio[1])
    crop_width = min(1.0, ratio * height / width)
    crop_height = min(1.0, width / height / ratio)
    return (
        (1 - crop_width) / 2 * width,
        (1 - crop_height) / 2 * height,
        (1 + crop_width) / 2 * width,
        (1 + crop_height) / 2 * height,
    )


def _erase(pixels: Pixels, random: np.random.RandomState) -> Pixels:
    """Cover a random box with noise, a random color for each pixel (timm's mode "pixel").

    timm's noise is normally distributed. Uniform bytes are used here, because they need no
    floating-point arithmetic, whose rounding could differ between machines.
    """
    size = len(pixels)
    for _ in range(_MAX_ATTEMPTS):
        area = random.uniform(*ERASED_AREA)
        ratio = math.exp(random.uniform(math.log(0.3), math.log(1 / 0.3)))
        sides = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if max(sides) < 1:
            height, width = (max(1, round(size * side)) for side in sides)
            top = int(random.random_sample() * (size - height))
            left = int(random.random_sample() * (size - width))
            noise = np.frombuffer(random.bytes(height * width * 3), np.uint8)
            pixels[top : top + height, left : left + width] = noise.reshape(height, width, 3)
            return pixels
    return pixels


def hash_probe_views(source: ViewSource, keys: Sequence[str], store_seed: int) -> str:
    """Hash the pixels of a few views, to compare the augmentation of two machines.

    Args:
        source: The images and the settings.
        keys: Keys of all images (paths relative to the data set), in order.
        store_seed: Seed of the store.

    Returns:
        Hex SHA-256 of `PROBE_VIEW_COUNT` views, whose images are evenly spread over the data set.
    """
    digest = hashlib.sha256(f"{VERSION}:{source.augmentation}".encode())
    for number in range(PROBE_VIEW_COUNT):
        index = number * len(keys) // PROBE_VIEW_COUNT
        seed = view_seed(store_seed, number, keys[index], 0)
        digest.update(make_view(source, index, seed).pixels.tobytes())
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that determine the pixels of a view, by name."""
    return {
        "augmentation": str(VERSION),
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "libjpeg": str(features.version_feature("libjpeg_turbo") or features.version_codec("jpg")),
    }
