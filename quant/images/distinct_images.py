"""Reads the different images of a source, and counts those that cannot be used."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinyvit.data.calibration_images import (
    CalibrationImage,
    CalibrationListing,
    Pixels,
    list_calibration_images,
    order_calibration_images,
)
from tinyvit.errors import ImageError, RequestError
from tinyvit.preprocess import Preprocess
from tinyvit.quant.images.digest_set import DigestSet, compute_digest
from tinyvit.quant.images.image_decoding import check_unreadable, decode_images
from tinyvit.quant.images.pixel_source import StreamedPixels

if TYPE_CHECKING:
    from hashlib import _Hash


@dataclass(frozen=True)
class DistinctImages:
    """The different images of a source, and the numbers of images that were left out.

    Attributes:
        pixels: RGB pixels, uint8 (N, H, W, 3).
        available: Number of images in the source.
        unreadable: Number of images that could not be read.
        copies: Number of images whose pixels equal those of an earlier one.
        notes: Clauses about what else the source contains, such as hidden files and links.
        last_pixels: The pixels of the last images, of which some may be held out.
        hash: The hash of the preprocessing and of all images but the last ones.
    """

    pixels: StreamedPixels
    available: int
    unreadable: int
    copies: int
    notes: tuple[str, ...]
    last_pixels: deque[Pixels]
    hash: _Hash

    def describe(self, data: Path, seed: int) -> str:
        """Describe where the images come from and how many were left out.

        The text follows the number of images in use, as in "64 of 900 images in photos, seed 0".

        Args:
            data: The source.
            seed: The seed of the order.
        """
        facts = [f"of {self.available} images in {data.name}", f"seed {seed}"]
        if self.unreadable:
            facts.append(f"{self.unreadable} unreadable")
        if self.copies:
            facts.append(f"{self.copies} copies")
        facts += self.notes
        return ", ".join(facts)

    def hold_out(self, count: int) -> tuple[str, Pixels]:
        """Remove the last images from `pixels`. This can be done once.

        Args:
            count: How many images to remove, at most as many as `last_pixels` has.

        Returns:
            The hex digest of the preprocessing and of the images that remain, in their order; and
            the pixels of those that were removed, uint8 (count, H, W, 3).
        """
        remaining_count = len(self.pixels) - count
        while len(self.last_pixels) > count:
            update_hash(self.hash, self.last_pixels.popleft())
        if not count or self.pixels.is_cached(len(self.pixels) - 1):
            removed = self.pixels[remaining_count:]
        else:
            removed = np.empty((count, *self.pixels.shape[1:]), np.uint8)
            for position in range(count):
                # Taken out one by one, so that their memory is free for the copies.
                removed[position] = self.last_pixels.popleft()
        self.last_pixels.clear()
        self.pixels.truncate(remaining_count)
        return self.hash.hexdigest(), removed


def begin_hash(preprocess: Preprocess) -> _Hash:
    """Return the hash of the preprocessing settings, which the pixels of the images follow.

    Args:
        preprocess: The preprocessing that is applied to the images.
    """
    return hashlib.sha256(json.dumps(asdict(preprocess), sort_keys=True).encode())


def update_hash(digest: _Hash, pixels: Pixels) -> None:
    """Continue a hash with the pixels of one or several images.

    Args:
        digest: The hash, which is changed.
        pixels: RGB pixels, uint8 (..., H, W, 3).
    """
    digest.update(np.ascontiguousarray(pixels).data)


def list_in_order(data: Path, seed: int) -> CalibrationListing:
    """List the images of a source in the order in which they are used.

    Args:
        data: A source that `list_calibration_images` accepts.
        seed: Determines the order.

    Raises:
        RequestError: The source cannot be used.
        ImageError: The folder cannot be read, or has no images.
    """
    listing = list_calibration_images(data)
    return replace(listing, images=tuple(order_calibration_images(listing.images, seed)))


def read_distinct_images(
    data: Path,
    listing: CalibrationListing,
    preprocess: Preprocess,
    count: int,
    max_held_out: int = 0,
) -> DistinctImages:
    """Read images in their order, until a number of different ones are found.

    Args:
        data: The source, for error messages.
        listing: The images of the source, in the order in which they are used.
        preprocess: The preprocessing of the model, which states how images are resized and cropped.
        count: Number of different images to read, if there are as many.
        max_held_out: Largest number of images that are held out.

    Raises:
        RequestError: Too many images are unreadable, or an image has only one color.
    """
    reader = _Reader(data, listing.images, preprocess, count)
    digest = begin_hash(preprocess)
    last_pixels: deque[Pixels] = deque()
    for pixels in reader.read():
        last_pixels.append(pixels)
        if len(last_pixels) > max_held_out:
            update_hash(digest, last_pixels.popleft())
    return DistinctImages(
        pixels=reader.pixels,
        available=len(listing.images),
        unreadable=len(reader.errors),
        copies=reader.copies,
        notes=listing.notes,
        last_pixels=last_pixels,
        hash=digest,
    )


class _Reader:
    """Reads images, and leaves out copies and unreadable images.

    Attributes:
        pixels: The different images that have been read.
        errors: The error of each unreadable image.
        copies: Number of images whose pixels equal those of an earlier one.
    """

    def __init__(
        self, data: Path, images: tuple[CalibrationImage, ...], preprocess: Preprocess, count: int
    ) -> None:
        self._data = data
        self._images = images
        self._preprocess = preprocess
        self._count = count
        self.pixels = StreamedPixels(preprocess, min(count, len(images)))
        self.errors: list[ImageError] = []
        self.copies = 0

    def read(self) -> Iterator[Pixels]:
        """Yield the pixels of the different images, after they were added to `pixels`."""
        digests = DigestSet()
        getters = (image.get_source for image in self._images)
        for image, decoded in zip(self._images, decode_images(getters, self._preprocess)):
            if isinstance(decoded, ImageError):
                self.errors.append(decoded)
                # A source with too many unreadable images is refused before all are decoded.
                readable_count = len(digests) + self.copies
                check_unreadable(self.errors, len(self._images), readable_count)
                continue
            _check_not_single_color(decoded, image, self._data)
            digest = compute_digest(decoded)
            if not digests.add(digest):
                self.copies += 1
                continue
            yield self.pixels.append(image, decoded, digest)
            if len(digests) == self._count:
                break
        check_unreadable(self.errors, len(digests) + self.copies + len(self.errors))


def _check_not_single_color(pixels: Pixels, image: CalibrationImage, data: Path) -> None:
    """Refuse an image, uint8 (H, W, 3), in which all pixels are equal."""
    if (pixels == pixels[0, 0]).all():
        raise RequestError(
            f"the image {image.name} of {data} has only one color",
            "remove it, because it would distort the ranges of the activations",
        )
