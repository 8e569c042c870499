"""Makes views (augmented versions) of images.

A view is cropped, flipped, changed by RandAugment and random erasing, and, if the settings say so,
mixed with another image (Mixup or CutMix). Its pixels depend only on the data set, the settings,
the index of the image, a seed and a size. Random numbers come from numpy's RandomState, whose
streams numpy keeps stable (NEP 19). Pillow computes the pixels, and its results do not depend on
the processor. So a teacher and a student on different machines see the same pixels. The module
`probe` detects exceptions, which are caused, for example, by another version of Pillow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinyvit.distill.augmentation.crop_and_erase import draw_crop, erase_box
from tinyvit.distill.augmentation.mixing import blend_views, paste_box
from tinyvit.distill.augmentation.paper_views import Erasure, make_paper_view
from tinyvit.distill.augmentation.randaugment import rand_augment
from tinyvit.distill.augmentation.settings import Augmentation
from tinyvit.images.resampling import resample_image

OpenImage = Callable[[int], Image.Image]
"""A function that decodes the image with a given index as RGB."""
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """One augmented view of an image.

    Attributes:
        pixels: uint8 (size, size, 3), RGB.
        partner: Index of the image that was mixed in; without mixing, the index of the image
            itself.
        own_fraction: Fraction of the view that comes from the image itself, 0 to 1.
        erasure: Noise that must cover a part of the normalized pixels; None if there is none. Only
            the paper's rules use it. This project's rules put the noise into `pixels`.
    """

    pixels: Pixels
    partner: int
    own_fraction: float
    erasure: Erasure | None = None


@dataclass(frozen=True)
class ViewSource:
    """The images of a data set, and the settings from which views of them are made.

    Attributes:
        open_image: Function that decodes the image with a given index, 0 to `image_count` - 1.
        image_count: Number of images.
        size: Width and height of the views in pixels.
        augmentation: The augmentation settings.
    """

    open_image: OpenImage
    image_count: int
    size: int
    augmentation: Augmentation


def compute_view_seed(run_seed: int, epoch: int, key: str, view_number: int) -> int:
    """Return the seed of one view.

    The seed is a hash of the arguments, so it is the same on every machine.

    Args:
        run_seed: Seed of the whole store or, without a store, of the training run.
        epoch: Epoch, from 0.
        key: Key of the image: its path relative to the data set.
        view_number: Number of the view among those of this image and epoch, from 0.

    Returns:
        A seed from 0 to 2**31 - 1.
    """
    text = f"{run_seed}:{epoch}:{view_number}:{key}".encode("utf-8", "surrogateescape")
    digest = hashlib.blake2b(text, digest_size=4).digest()
    # The paper's format stores seeds as int32, so the sign bit must be 0.
    return int.from_bytes(digest, "little") & 0x7FFFFFFF


def make_view(source: ViewSource, index: int, seed: int) -> View:
    """Make one view of an image.

    Args:
        source: The images and the settings.
        index: Index of the image.
        seed: Seed of the view, see `compute_view_seed`.

    Returns:
        The view.

    Raises:
        ImageError: An image cannot be decoded.
    """
    augmentation = source.augmentation
    if augmentation.rule == "paper":
        pixels, erasure = make_paper_view(source.open_image(index), seed, source.size)
        return View(pixels, partner=index, own_fraction=1.0, erasure=erasure)
    random = np.random.RandomState(seed)
    alphas = {"mixup": augmentation.mixup, "cutmix": augmentation.cutmix}
    methods = [method for method, alpha in alphas.items() if alpha > 0]
    if not methods:
        pixels = augment_image(source.open_image(index), random, source.size, augmentation)
        return View(pixels, partner=index, own_fraction=1.0)
    method = methods[random.randint(len(methods))]
    own_fraction = float(random.beta(alphas[method], alphas[method]))
    partner = int(random.randint(source.image_count))
    center_x, center_y = random.random_sample(2)
    # The two images do not share a random generator: random erasing draws a number for each erased
    # pixel, so the crop of the partner would depend on the size of the view.
    own_pixels, partner_pixels = (
        augment_image(
            source.open_image(image_index),
            np.random.RandomState(random.randint(2**31)),
            source.size,
            augmentation,
        )
        for image_index in (index, partner)
    )
    if method == "mixup":
        pixels, own_fraction = blend_views(own_pixels, partner_pixels, own_fraction)
    else:
        center = (center_x, center_y)
        pixels, own_fraction = paste_box(own_pixels, partner_pixels, own_fraction, center)
    return View(pixels, partner, own_fraction)


def augment_image(
    image: Image.Image, random: np.random.RandomState, size: int, augmentation: Augmentation
) -> Pixels:
    """Crop and flip an image, and apply RandAugment and random erasing to it.

    Args:
        image: An RGB image.
        random: Source of all randomness.
        size: Width and height of the result in pixels.
        augmentation: The augmentation settings.

    Returns:
        uint8 (size, size, 3).
    """
    box = draw_crop(random, image.width, image.height, augmentation)
    image = resample_image(image, size, Image.Resampling.BICUBIC, box)
    if random.random_sample() < augmentation.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = rand_augment(
        image, random, augmentation.operations, augmentation.magnitude, augmentation.deviation
    )
    pixels = np.array(image)
    if random.random_sample() < augmentation.erase:
        erase_box(pixels, random)
    return pixels
