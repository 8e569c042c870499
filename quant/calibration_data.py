"""Reads the images on which the scales of int8 activations are calibrated.

The images are resized and cropped as the model needs them. Which images are chosen depends only on
their names and a seed, so that the choice is the same on every machine. If several images are
equal, only the first is used.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tinyvit.data.calibration_images import (
    CalibrationImage,
    Pixels,
    list_calibration_images,
    order_calibration_images,
)
from tinyvit.errors import ImageError, RequestError
from tinyvit.preprocess import Preprocess
from tinyvit.quant.image_decoding import check_unreadable, decode_images

MIN_IMAGES = 32
"""Smallest number of calibration images. Fewer do not cover the range of the activations."""
MAX_IMAGES = 10_000
"""Largest number of calibration images. More only take longer."""
CALIBRATION_COUNT = 256
"""Default number of calibration images of up to 512 x 512 pixels (see `quant.image_counts`), except
for synthetic images (`synthetic.DEFAULT_COUNT`)."""
MIN_AGREEMENT_IMAGES = 67
"""Smallest number of images that are held out from calibration to measure agreement on, if there
are enough images. With fewer, a single image that int8 classifies differently would exceed the 1.5%
that the default budget allows."""


@dataclass(frozen=True)
class CalibrationSet:
    """Images for calibration.

    Attributes:
        pixels: RGB pixels, uint8 (N, H, W, 3), resized and cropped to the input size.
        source: Description of where the images come from, on one line.
        sha256: Hex digest of the preprocessing settings and of the pixels, in this order.
        skipped: Number of image files that could not be read.
    """

    pixels: Pixels
    source: str
    sha256: str
    skipped: int = 0

    @classmethod
    def from_pixels(
        cls, pixels: Pixels, source: str, preprocess: Preprocess, skipped: int = 0
    ) -> CalibrationSet:
        """Create a set and compute its hash.

        Args:
            pixels: RGB pixels, uint8 (N, H, W, 3).
            source: Description of where the images come from, on one line.
            preprocess: The preprocessing that was applied to the images.
            skipped: Number of files that could not be read.
        """
        digest = hashlib.sha256(json.dumps(asdict(preprocess), sort_keys=True).encode())
        digest.update(np.ascontiguousarray(pixels).data)
        return cls(pixels, source, digest.hexdigest(), skipped)


@dataclass(frozen=True)
class _DistinctImages:
    """The different images of a source, and the numbers of images that were left out.

    Attributes:
        pixels: RGB pixels, uint8 (N, H, W, 3).
        available: Number of images in the source.
        unreadable: Number of images that could not be read.
        copies: Number of images whose pixels equal those of an earlier one.
        notes: Clauses about what else the source contains, such as hidden files and links.
    """

    pixels: Pixels
    available: int
    unreadable: int
    copies: int
    notes: tuple[str, ...]

    def describe(self, data: Path, seed: int) -> str:
        """Describe where the images come from and how many were left out.

        The text follows the number of images in use, as in "64 of 900 images in photos, seed 0".
        """
        facts = [f"of {self.available} images in {data.name}", f"seed {seed}"]
        if self.unreadable:
            facts.append(f"{self.unreadable} unreadable")
        if self.copies:
            facts.append(f"{self.copies} copies")
        facts += self.notes
        return ", ".join(facts)


def read_calibration_set(
    data: str | Path, preprocess: Preprocess, count: int = CALIBRATION_COUNT, seed: int = 0
) -> CalibrationSet:
    """Read images for calibration, about equally many from each folder of a source.

    Unreadable files, and images equal to an earlier one, are left out and counted.

    Args:
        data: A folder of images at any depth; a .txt file with one path per line, relative to the
            .txt file; or an .npz file with one array, uint8 (N, H, W, 3).
        preprocess: The preprocessing of the model, which states how images are resized and cropped.
        count: Number of images, `MIN_IMAGES` to `MAX_IMAGES`. If the source has fewer, all are
            used.
        seed: Another seed gives another choice of images.

    Returns:
        The images.

    Raises:
        RequestError: The data or the count cannot be used, too many images are unreadable, there
            are fewer than `MIN_IMAGES` different images, or an image has only one color.
        ImageError: The folder cannot be read, or has no images.
    """
    check_calibration_count(count)
    images = _read_distinct_images(Path(data), preprocess, count, seed)
    source = f"{len(images.pixels)} {images.describe(Path(data), seed)}"
    return CalibrationSet.from_pixels(images.pixels, source, preprocess, images.unreadable)


def read_calibration_split(
    data: str | Path,
    preprocess: Preprocess,
    count: int = CALIBRATION_COUNT,
    max_held_out: int = 1000,
    seed: int = 0,
) -> tuple[CalibrationSet, Pixels]:
    """Read images for calibration, and other images of the same source to measure int8 on.

    The images to measure on are held out from calibration. With `count` + `max_held_out` or more
    images, `count` are used for calibration and `max_held_out` are held out. With fewer, the number
    of images held out is the largest of: all images but `count`, a fifth of all images, and
    `MIN_AGREEMENT_IMAGES`. But it is at most `max_held_out`, and at least `MIN_IMAGES` images
    remain for calibration, if necessary fewer than `count`.

    Args:
        data: A source of images, in any form that `read_calibration_set` accepts.
        preprocess: The preprocessing of the model, which states how images are resized and cropped.
        count: Number of calibration images, `MIN_IMAGES` to `MAX_IMAGES`.
        max_held_out: Largest number of images that are held out.
        seed: Another seed gives another choice of images.

    Returns:
        The calibration set, and the RGB pixels of the images that were held out, uint8
        (N, H, W, 3).

    Raises:
        RequestError: As in `read_calibration_set`, or calibration needs all images.
        ImageError: The folder cannot be read, or has no images.
    """
    check_calibration_count(count)
    images = _read_distinct_images(Path(data), preprocess, count + max_held_out, seed)
    distinct_count = len(images.pixels)
    desired_count = max(distinct_count // 5, MIN_AGREEMENT_IMAGES, distinct_count - count)
    held_out_count = min(max_held_out, desired_count, distinct_count - MIN_IMAGES)
    if held_out_count < 1:
        raise RequestError(
            f"{data} has only {distinct_count} different images, all of which calibration needs",
            f"give {2 * MIN_IMAGES} or more images, or labeled images with --val-data",
        )
    calibration_count = distinct_count - held_out_count
    pixels = images.pixels[:calibration_count]
    source = f"{len(pixels)} {images.describe(Path(data), seed)}, {held_out_count} held out"
    calibration = CalibrationSet.from_pixels(pixels, source, preprocess, images.unreadable)
    return calibration, images.pixels[calibration_count:]


def check_calibration_count(count: int) -> None:
    """Refuse a number of calibration images that is out of range.

    Args:
        count: Number of calibration images.

    Raises:
        RequestError: The number is below `MIN_IMAGES` or above `MAX_IMAGES`.
    """
    if not MIN_IMAGES <= count <= MAX_IMAGES:
        raise RequestError(
            f"{count} calibration images are not allowed",
            f"give --calib-count a number from {MIN_IMAGES} to {MAX_IMAGES}",
        )


def _read_distinct_images(
    data: Path, preprocess: Preprocess, count: int, seed: int
) -> _DistinctImages:
    """Read images in an order that depends on the seed, until `count` different ones are found."""
    listing = list_calibration_images(data)
    images = order_calibration_images(listing.images, seed)
    shape = (min(count, len(images)), preprocess.height, preprocess.width, 3)
    pixels = np.empty(shape, np.uint8)
    digests: set[bytes] = set()
    errors: list[ImageError] = []
    copies = 0
    decoded_images = decode_images((image.get_source for image in images), preprocess)
    for image, decoded in zip(images, decoded_images):
        if isinstance(decoded, ImageError):
            errors.append(decoded)
            # A source with too many unreadable images is refused before all have been decoded.
            check_unreadable(errors, len(images), readable_count=len(digests) + copies)
            continue
        _check_not_single_color(decoded, image, data)
        digest = hashlib.sha256(decoded.data).digest()
        if digest in digests:
            copies += 1
            continue
        pixels[len(digests)] = decoded
        digests.add(digest)
        if len(digests) == count:
            break
    distinct = _DistinctImages(
        pixels=pixels[: len(digests)],
        available=len(images),
        unreadable=len(errors),
        copies=copies,
        notes=listing.notes,
    )
    decoded_count = len(digests) + copies + len(errors)
    check_unreadable(errors, image_count=decoded_count)
    _check_enough_images(distinct, data)
    return distinct


def _check_not_single_color(pixels: Pixels, image: CalibrationImage, data: Path) -> None:
    """Refuse an image, uint8 (H, W, 3), in which all pixels are equal."""
    if (pixels == pixels[0, 0]).all():
        raise RequestError(
            f"the image {image.name} of {data} has only one color",
            "remove it, because it would distort the ranges of the activations",
        )


def _check_enough_images(images: _DistinctImages, data: Path) -> None:
    """Refuse fewer than `MIN_IMAGES` different images."""
    if len(images.pixels) >= MIN_IMAGES:
        return
    left_out = (
        f" (left out: {images.copies} copies, {images.unreadable} unreadable)"
        if images.copies or images.unreadable
        else ""
    )
    raise RequestError(
        f"{data} has only {len(images.pixels)} different images{left_out}",
        f"give at least {MIN_IMAGES} different images",
    )
