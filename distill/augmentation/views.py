"""A view of a picture: crop, flip, RandAugment, erasing, Mixup or CutMix with another picture, all of it told by one seed.

In: pictures of a dataset, an index, a seed, a size. Out: `View`, pixels and what they were mixed from. Everything that is random comes
from numpy's RandomState of the seed, whose streams numpy keeps for good (NEP 19), and pixels from Pillow, whose code does not choose
by processor: the same seed gives the same pixels on other machines, and `probe_views` shows where it does not.
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
"""Of the order in which a seed is used up. Another order is another view: stores of another version are refused."""
PROBES = 8
"""Views whose pixels are hashed into a store."""
ERASED = (0.02, 1 / 3)
"""Share of a view that is erased; the box's sides have a ratio of 0.3 to 1/0.3 (timm/data/random_erasing.py)."""

Open = Callable[[int], Image.Image]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Augmentation:
    """The paper's defaults (microsoft/Cream, TinyViT/config.py). scale, ratio: share and aspect of the crop's area. flip, erase:
    probabilities. operations, magnitude, deviation: RandAugment's, 0 operations for none. mixup, cutmix: alpha of the share's Beta
    distribution, 0 for never; where both are set, either is drawn with probability 0.5."""

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
        sound = (
            0 < self.scale[0] <= self.scale[1] <= 1
            and 0 < self.ratio[0] <= self.ratio[1]
            and 0 <= self.flip <= 1
            and 0 <= self.erase <= 1
            and 0 <= self.operations <= 10
            and 0 <= self.magnitude <= 10
            and self.deviation >= 0
            and min(self.mixup, self.cutmix) >= 0
        )
        if not sound:
            raise RequestError(
                f"not a possible augmentation: {self}",
                "scale and probabilities are within 0 to 1, magnitude within 10, none is negative",
            )


@dataclass(frozen=True)
class View:
    """pixels: uint8 (S, S, 3). partner: index of the picture that was mixed in, the picture's own where none was. share: of the
    picture itself, 0 to 1."""

    pixels: Pixels
    partner: int
    share: float


def view_seed(store_seed: int, epoch: int, key: str, make_view: int) -> int:
    """The seed of a picture's view in an epoch, 0 to 2**31 - 1: a hash, so that it depends on nothing but these."""
    text = f"{store_seed}:{epoch}:{make_view}:{key}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little") & 0x7FFFFFFF


def make_view(
    pictures: Open, count: int, index: int, seed: int, size: int, how: Augmentation
) -> View:
    """One view of picture `index` of `count`, `size` pixels on a side. Raises ImageError where a picture cannot be decoded."""
    random = np.random.RandomState(seed)
    ways = [way for way, alpha in (("mixup", how.mixup), ("cutmix", how.cutmix)) if alpha > 0]
    if not ways:
        return View(single(pictures(index), random, size, how), index, 1.0)
    # Drawn before any pixel: what a view is mixed with must not depend on its size, which erasing's noise does.
    way = ways[random.randint(len(ways))]
    alpha = how.mixup if way == "mixup" else how.cutmix
    share, partner, x, y = (
        float(random.beta(alpha, alpha)),
        int(random.randint(count)),
        *random.random_sample(2),
    )
    pixels, other = (
        single(pictures(each), np.random.RandomState(random.randint(2**31)), size, how)
        for each in (index, partner)
    )
    if way == "mixup":
        weight = round(256 * share)
        mixed = (pixels.astype(np.uint16) * weight + other.astype(np.uint16) * (256 - weight)) >> 8
        return View(mixed.astype(np.uint8), partner, weight / 256)
    left, top, right, bottom = _box(x, y, size, math.sqrt(1 - share))
    pixels = pixels.copy()
    pixels[top:bottom, left:right] = other[top:bottom, left:right]
    return View(pixels, partner, 1 - (right - left) * (bottom - top) / size**2)


def single(
    image: Image.Image, random: np.random.RandomState, size: int, how: Augmentation
) -> Pixels:
    """Crop, flip, RandAugment and erasing of one RGB picture: uint8 (size, size, 3)."""
    box = _crop(random, image.width, image.height, how)
    image = resample_image(image, size, Image.Resampling.BICUBIC, box)
    if random.random_sample() < how.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = rand_augment(image, random, how.operations, how.magnitude, how.deviation)
    pixels = np.array(image)
    return _erased(pixels, random) if random.random_sample() < how.erase else pixels


def _crop(
    random: np.random.RandomState, width: int, height: int, how: Augmentation
) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the picture, in pixels: the rule of torchvision's RandomResizedCrop, ten tries and the middle else."""
    low, high = (math.log(side) for side in how.ratio)
    for _ in range(10):
        area = random.uniform(*how.scale)
        ratio = math.exp(random.uniform(low, high))
        w, h = math.sqrt(area * ratio * height / width), math.sqrt(area / ratio * width / height)
        if w <= 1 and h <= 1:
            left, top = random.random_sample() * (1 - w), random.random_sample() * (1 - h)
            return left * width, top * height, (left + w) * width, (top + h) * height
    ratio = min(max(width / height, how.ratio[0]), how.ratio[1])
    w, h = min(1.0, ratio * height / width), min(1.0, width / height / ratio)
    return (1 - w) / 2 * width, (1 - h) / 2 * height, (1 + w) / 2 * width, (1 + h) / 2 * height


def _erased(pixels: Pixels, random: np.random.RandomState) -> Pixels:
    """With a box of noise: every pixel of its own, as the recipe's "pixel" mode; uniform, so that no rounding shows."""
    size = len(pixels)
    for _ in range(10):
        area = random.uniform(*ERASED)
        ratio = math.exp(random.uniform(math.log(0.3), math.log(1 / 0.3)))
        sides = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if max(sides) < 1:
            h, w = (max(1, round(size * side)) for side in sides)
            top, left = (
                int(random.random_sample() * (size - h)),
                int(random.random_sample() * (size - w)),
            )
            noise = np.frombuffer(random.bytes(h * w * 3), np.uint8).reshape(h, w, 3)
            pixels[top : top + h, left : left + w] = noise
            return pixels
    return pixels


def _box(x: float, y: float, size: int, side: float) -> tuple[int, int, int, int]:
    """A square of `side` times the view about (x, y), shares of it, cut off at the edges: CutMix's (Yun et al., 2019)."""
    half = side / 2
    left, top, right, bottom = (
        round(size * min(max(at, 0), 1)) for at in (x - half, y - half, x + half, y + half)
    )
    return left, top, right, bottom


def probe_views(
    pictures: Open, keys: Sequence[str], store_seed: int, size: int, how: Augmentation
) -> str:
    """Hex digest of the pixels of PROBES views, of pictures spread over the dataset: equal where augmentation computes the same."""
    digest = hashlib.sha256(f"{VERSION}:{how}".encode())
    for nth in range(PROBES):
        index = nth * len(keys) // PROBES
        digest.update(
            make_view(
                pictures, len(keys), index, view_seed(store_seed, nth, keys[index], 0), size, how
            ).pixels.tobytes()
        )
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """What computes the pixels."""
    return {
        "augmentation": str(VERSION),
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "libjpeg": str(features.version_feature("libjpeg_turbo") or features.version_codec("jpg")),
    }
