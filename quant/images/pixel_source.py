"""Provides the pixels of calibration images, of which only some are kept in memory.

There may be a million images. They are decoded again whenever the network runs on them, unless they
belong to the first ones, which are kept.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator, Sequence
from itertools import islice
from typing import Protocol

import numpy as np

from tinyvit.data.calibration_images import CalibrationImage, Pixels
from tinyvit.errors import ImageError, RequestError
from tinyvit.preprocess import Preprocess
from tinyvit.quant.images.digest_set import compute_digest
from tinyvit.quant.images.image_decoding import decode_images

MAX_CACHED_BYTES = 2**29
"""Largest size of the decoded images that are kept in memory: about 3,500 images of 224 x 224."""


class PixelSource(Protocol):
    """Images as RGB pixels, uint8 (N, H, W, 3): an array, or `StreamedPixels`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (N, H, W, 3)."""
        ...

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def __getitem__(self, images: slice, /) -> Pixels:
        """Return some of the images, uint8 (n, H, W, 3)."""
        ...


class StreamedPixels:
    """Images as a `PixelSource` that keeps at most `MAX_CACHED_BYTES` of them in memory.

    Images beyond this are decoded again for each slice. If one slice follows the other, threads
    decode a few images of the next slice while the caller uses this one.
    """

    def __init__(self, preprocess: Preprocess, capacity: int) -> None:
        """Create a source without images.

        Args:
            preprocess: The preprocessing, which states how images are resized and cropped.
            capacity: Largest number of images.
        """
        self._preprocess = preprocess
        image_shape = (preprocess.height, preprocess.width, 3)
        cached_count = min(capacity, MAX_CACHED_BYTES // int(np.prod(image_shape)))
        # The system provides memory only when the images are written.
        self._cached = np.empty((cached_count, *image_shape), np.uint8)
        self._count = 0
        self._further: list[CalibrationImage] = []
        self._digests = array("Q")
        self._stream: Generator[Pixels] | None = None
        self._next_index = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (N, H, W, 3) of all images together."""
        return (self._count, *self._cached.shape[1:])

    def __len__(self) -> int:
        """Return the number of images."""
        return self._count

    def append(self, image: CalibrationImage, pixels: Pixels, digest: int) -> Pixels:
        """Add an image.

        Args:
            image: The image, which is decoded again if its pixels are not kept.
            pixels: Its pixels, uint8 (H, W, 3), resized and cropped.
            digest: `compute_digest` of the pixels.

        Returns:
            The pixels, as a part of the array of those that are kept if they are kept.
        """
        index = self._count
        self._count += 1
        if self.is_cached(index):
            kept: Pixels = self._cached[index]
            kept[:] = pixels
            return kept
        self._further.append(image)
        self._digests.append(digest)
        return pixels

    def is_cached(self, index: int) -> bool:
        """Return whether the pixels of an image are kept in memory.

        Args:
            index: The position of the image.
        """
        return index < len(self._cached)

    def truncate(self, count: int) -> None:
        """Remove all images but the first ones.

        Args:
            count: How many images remain, at most as many as there are.
        """
        self._close_stream()
        self._count = count
        further_count = max(0, count - len(self._cached))
        del self._further[further_count:]
        del self._digests[further_count:]

    def __getitem__(self, images: slice, /) -> Pixels:
        """Return some of the images, uint8 (n, H, W, 3).

        Args:
            images: A slice with a step greater than 0.

        Raises:
            RequestError: An image is not the same as when it was added.
        """
        indices = range(self._count)[images]
        if not indices or self.is_cached(indices[-1]):
            return self._cached[: self._count][images]
        pixels = np.empty((len(indices), *self._cached.shape[1:]), np.uint8)
        for position, index in enumerate(indices):
            pixels[position] = self._cached[index] if self.is_cached(index) else self._decode(index)
        return pixels

    def _decode(self, index: int) -> Pixels:
        """Decode an image. That is faster if it follows the image of the last call."""
        if self._stream is None or index != self._next_index:
            self._close_stream()
            start = index - len(self._cached)
            # A function, because a generator of a method would keep this object alive.
            self._stream = _decode_unchanged(self._further, self._digests, self._preprocess, start)
        self._next_index = -1  # After an error, the next call begins again.
        pixels = next(self._stream)
        self._next_index = index + 1
        if self._next_index == self._count:
            self._close_stream()
        return pixels

    def _close_stream(self) -> None:
        """End the threads that decode."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _decode_unchanged(
    images: Sequence[CalibrationImage], digests: Sequence[int], preprocess: Preprocess, start: int
) -> Generator[Pixels]:
    """Decode the images from an index on, and check that they have not changed."""
    getters = (image.get_source for image in islice(images, start, None))
    expected = zip(islice(images, start, None), islice(digests, start, None))
    for (image, digest), decoded in zip(expected, decode_images(getters, preprocess)):
        if isinstance(decoded, ImageError):
            raise _make_changed_error(image, decoded.cause)
        if compute_digest(decoded) != digest:
            raise _make_changed_error(image, "its pixels are others than before")
        yield decoded


def _make_changed_error(image: CalibrationImage, reason: str) -> RequestError:
    return RequestError(
        f"the calibration image {image.name} changed during the calibration ({reason})",
        "repeat the command, and do not change the images while it runs",
    )
