"""Images to calibrate the int8 scales on, in the model's own preprocessing.

The choice of images depends on their names and a seed alone, so that it is the same on every
machine. Copies of one image count once.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tinyvit.data.image_sources import (
    Pixels,
    SourceImage,
    list_source_images,
    order_source_images,
)
from tinyvit.errors import ImageError, RequestError
from tinyvit.preprocess import Preprocess
from tinyvit.quant.image_decoding import check_unreadable, decode_images

MIN_IMAGES = 32
"""Fewest calibration images: fewer show too little of the range of the activations."""
MAX_IMAGES = 10_000
"""Most calibration images: more only take longer."""
MIN_AGREEMENT_IMAGES = 67
"""Fewest images to measure agreement on, where there are enough for calibration too. With fewer, a
single image of another class is more than the 1.5% that the default budget allows."""


@dataclass(frozen=True)
class CalibrationSet:
    """Images to calibrate on.

    Attributes:
        pixels: RGB pixels, uint8 (N, S, S, 3), resized and cropped to the input size S.
        source: A description of the images, on one line.
        sha256: Hex digest of the preprocessing and of the pixels in their order.
        skipped: Number of files that could not be read.
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
            pixels: RGB pixels, uint8 (N, S, S, 3).
            source: A description of the images, on one line.
            preprocess: The preprocessing that the pixels went through.
            skipped: Number of files that could not be read.
        """
        digest = hashlib.sha256(json.dumps(asdict(preprocess), sort_keys=True).encode())
        digest.update(np.ascontiguousarray(pixels).data)
        return cls(pixels, source, digest.hexdigest(), skipped)


@dataclass(frozen=True)
class _DistinctImages:
    """Different images of a source, and what was left out.

    Attributes:
        pixels: RGB pixels, uint8 (N, S, S, 3).
        available: Number of images that the source lists.
        unreadable: Number of images that could not be read.
        copies: Number of images whose pixels equal those of an earlier one.
    """

    pixels: Pixels
    available: int
    unreadable: int
    copies: int

    def describe(self, data: Path, seed: int) -> str:
        """Describe where the images come from and what was left out."""
        facts = [f"of {self.available} images in {data.name}", f"seed {seed}"]
        if self.unreadable:
            facts.append(f"{self.unreadable} unreadable")
        if self.copies:
            facts.append(f"{self.copies} copies")
        return ", ".join(facts)


def read_calibration_set(
    data: str | Path, preprocess: Preprocess, count: int = 256, seed: int = 0
) -> CalibrationSet:
    """Read images to calibrate on, drawn evenly from the folders of a source.

    Unreadable files and copies are left out and counted.

    Args:
        data: A folder of images at any depth; a .txt file with one path per line, relative to the
            file; or an .npz file of one array, uint8 (N, H, W, 3).
        preprocess: How the model's images are resized and cropped.
        count: Number of images, `MIN_IMAGES` to `MAX_IMAGES`. Where there are fewer, all are used.
        seed: Another seed gives another choice of images.

    Raises:
        RequestError: The data or the count cannot be used, too many images cannot be read, fewer
            than `MIN_IMAGES` different images remain, or an image has a single color.
        ImageError: The folder cannot be read, or has no images.
    """
    check_calibration_count(count)
    images = _read_distinct_images(Path(data), preprocess, count, seed)
    source = f"{len(images.pixels)} {images.describe(Path(data), seed)}"
    return CalibrationSet.from_pixels(images.pixels, source, preprocess, images.unreadable)


def read_calibration_split(
    data: str | Path,
    preprocess: Preprocess,
    count: int = 256,
    max_held_out: int = 1000,
    seed: int = 0,
) -> tuple[CalibrationSet, Pixels]:
    """Read images to calibrate on, and other images of the same source to measure with.

    Where there are not enough images for both, a fifth is held out, and at least
    `MIN_AGREEMENT_IMAGES`; but `MIN_IMAGES` always remain for calibration.

    Args:
        data: A source of images, as `read_calibration_set` takes it.
        preprocess: How the model's images are resized and cropped.
        count: Number of calibration images, `MIN_IMAGES` to `MAX_IMAGES`.
        max_held_out: Largest number of images to hold out.
        seed: Another seed gives another choice of images.

    Returns:
        The calibration set, and the RGB pixels that were held out, uint8 (N, S, S, 3). None of
        them is in the calibration set.

    Raises:
        RequestError: As for `read_calibration_set`, or no image is left to hold out.
        ImageError: The folder cannot be read, or has no images.
    """
    check_calibration_count(count)
    images = _read_distinct_images(Path(data), preprocess, count + max_held_out, seed)
    distinct = len(images.pixels)
    desired = max(distinct // 5, MIN_AGREEMENT_IMAGES, distinct - count)
    held_out = min(max_held_out, desired, distinct - MIN_IMAGES)
    if held_out < 1:
        raise RequestError(
            f"{data} has {distinct} different images, all of which calibration needs",
            f"give {2 * MIN_IMAGES} or more, or labeled images with --val-data",
        )
    pixels = images.pixels[: distinct - held_out]
    source = f"{len(pixels)} {images.describe(Path(data), seed)}, {held_out} held out"
    calibration = CalibrationSet.from_pixels(pixels, source, preprocess, images.unreadable)
    return calibration, images.pixels[distinct - held_out :]


def check_calibration_count(count: int) -> None:
    """Refuse a number of calibration images that is out of range.

    Args:
        count: Number of calibration images.

    Raises:
        RequestError: The number is not within `MIN_IMAGES` to `MAX_IMAGES`.
    """
    if not MIN_IMAGES <= count <= MAX_IMAGES:
        raise RequestError(
            f"{count} calibration images are outside the allowed range",
            f"give --calib-count of {MIN_IMAGES} to {MAX_IMAGES}",
        )


def _read_distinct_images(
    data: Path, preprocess: Preprocess, count: int, seed: int
) -> _DistinctImages:
    """Read images in the order of the seed until `count` different ones are found."""
    images = order_source_images(list_source_images(data), seed)
    pixels = np.empty((min(count, len(images)), preprocess.size, preprocess.size, 3), np.uint8)
    digests: set[bytes] = set()
    errors: list[ImageError] = []
    copies = 0
    for image, decoded in zip(images, decode_images((item.read for item in images), preprocess)):
        if isinstance(decoded, ImageError):
            errors.append(decoded)
            check_unreadable(errors, len(images))
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
    distinct = _DistinctImages(pixels[: len(digests)], len(images), len(errors), copies)
    check_unreadable(errors, len(digests) + len(errors) + copies)
    _check_enough_images(distinct, data)
    return distinct


def _check_not_single_color(pixels: Pixels, image: SourceImage, data: Path) -> None:
    """Refuse an image whose pixels, uint8 (S, S, 3), are all equal."""
    if (pixels == pixels[0, 0]).all():
        raise RequestError(
            f"the image {image.name} of {data} has only one color",
            "remove it: its activations do not have the ranges of a photograph's",
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
        f"{data} has {len(images.pixels)} different images{left_out}",
        f"give at least {MIN_IMAGES}",
    )
