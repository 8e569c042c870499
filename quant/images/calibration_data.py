"""Reads the images on which the scales of int8 activations are calibrated.

The images are resized and cropped as the model needs them. Which images are chosen depends only on
their names and a seed, so that the choice is the same on every machine. If several images are
equal, only the first is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tinyvit.data.calibration_images import Pixels
from tinyvit.errors import RequestError
from tinyvit.preprocess import Preprocess
from tinyvit.quant.images.distinct_images import (
    DistinctImages,
    begin_hash,
    list_in_order,
    read_distinct_images,
    update_hash,
)
from tinyvit.quant.images.pixel_source import PixelSource

MIN_IMAGES = 32
"""Smallest number of calibration images. Fewer do not cover the range of the activations."""
MAX_IMAGES = 1_000_000
"""Largest number of calibration images. Hundreds are enough; more take longer, and the memory for
the list of their names."""
MAX_SYNTHETIC_IMAGES = 10_000
"""Largest number of synthetic images, which are all in memory and take seconds each."""
CALIBRATION_COUNT = 256
"""Default number of calibration images of up to 512 x 512 pixels (see `quant.images.image_counts`),
except for synthetic images (`synthetic.DEFAULT_COUNT`)."""
MIN_AGREEMENT_IMAGES = 67
"""Smallest number of images that are held out from calibration to measure agreement on, if there
are enough images. With fewer, a single image that int8 classifies differently would exceed the 1.5%
that the default budget allows."""


@dataclass(frozen=True)
class CalibrationSet:
    """Images for calibration.

    Attributes:
        pixels: RGB pixels, uint8 (N, H, W, 3), resized and cropped to the input size. Not all of
            them are in memory if there are many.
        source: Description of where the images come from, on one line.
        sha256: Hex digest of the preprocessing settings and of the pixels, in this order.
        skipped: Number of image files that could not be read.
    """

    pixels: PixelSource
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
        digest = begin_hash(preprocess)
        update_hash(digest, pixels)
        return cls(pixels, source, digest.hexdigest(), skipped)


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
    images = _read_images(Path(data), preprocess, count, seed)
    source = f"{len(images.pixels)} {images.describe(Path(data), seed)}"
    sha256, _ = images.hold_out(0)
    return CalibrationSet(images.pixels, source, sha256, images.unreadable)


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
    images = _read_images(Path(data), preprocess, count + max_held_out, seed, max_held_out)
    distinct_count = len(images.pixels)
    desired_count = max(distinct_count // 5, MIN_AGREEMENT_IMAGES, distinct_count - count)
    held_out_count = min(max_held_out, desired_count, distinct_count - MIN_IMAGES)
    if held_out_count < 1:
        raise RequestError(
            f"{data} has only {distinct_count} different images, all of which calibration needs",
            f"give {2 * MIN_IMAGES} or more images, or labeled images with --val-data",
        )
    sha256, held_out = images.hold_out(held_out_count)
    description = f"{images.describe(Path(data), seed)}, {held_out_count} held out"
    source = f"{len(images.pixels)} {description}"
    return CalibrationSet(images.pixels, source, sha256, images.unreadable), held_out


def check_calibration_count(count: int, largest: int = MAX_IMAGES) -> None:
    """Refuse a number of calibration images that is out of range.

    Args:
        count: Number of calibration images.
        largest: Largest number that is allowed; `MAX_SYNTHETIC_IMAGES` for synthetic images.

    Raises:
        RequestError: The number is below `MIN_IMAGES` or above `largest`.
    """
    if not MIN_IMAGES <= count <= largest:
        raise RequestError(
            f"{count} calibration images are not allowed",
            f"give --calib-count a number from {MIN_IMAGES} to {largest}",
        )


def _read_images(
    data: Path, preprocess: Preprocess, count: int, seed: int, max_held_out: int = 0
) -> DistinctImages:
    """Read images in an order that depends on the seed, until `count` different ones are found."""
    listing = list_in_order(data, seed)
    images = read_distinct_images(data, listing, preprocess, count, max_held_out)
    _check_enough_images(images, data)
    return images


def _check_enough_images(images: DistinctImages, data: Path) -> None:
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
