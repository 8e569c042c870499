"""Decodes images in threads into the pixels that a model takes, and limits unreadable images.

The EXIF rotation of cameras is ignored, as in the published evaluations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from tinyvit.data.decoding import count_decoding_threads, map_ahead
from tinyvit.data.image_sources import Pixels
from tinyvit.data.listing import ImageReader
from tinyvit.errors import ImageError, RequestError
from tinyvit.images import open_image
from tinyvit.preprocess import Preprocess

MAX_UNREADABLE_SHARE = 0.05
"""Share of unreadable images above which the data as a whole is taken to be wrong."""


def decode_images(
    readers: Iterable[ImageReader], preprocess: Preprocess
) -> Iterator[Pixels | ImageError]:
    """Decode, resize and crop images in threads that work a few images ahead.

    Args:
        readers: One reader for each image.
        preprocess: How the model's images are resized and cropped.

    Yields:
        For each image in order its RGB pixels, uint8 (S, S, 3), or the error that decoding raised.
    """
    threads = count_decoding_threads()
    return map_ahead(
        partial(_decode_image, preprocess), readers, threads=threads, ahead=2 * threads + 1
    )


def check_unreadable(errors: Sequence[ImageError], total: int) -> None:
    """Refuse data of which too many images cannot be read.

    Args:
        errors: The error of each unreadable image.
        total: Number of images that the share is computed of.

    Raises:
        RequestError: More than `MAX_UNREADABLE_SHARE` of the images are unreadable.
    """
    if len(errors) > MAX_UNREADABLE_SHARE * total:
        raise RequestError(
            f"{len(errors)} of {total} images cannot be read; the first error: {errors[0].cause}",
            f"{errors[0].remedy}; up to {MAX_UNREADABLE_SHARE:.0%} of the images may be unreadable",
        )


def _decode_image(preprocess: Preprocess, read: ImageReader) -> Pixels | ImageError:
    """Return the pixels of one image, or the error."""
    try:
        return preprocess.resize_and_crop(open_image(read(), exif=False))
    except ImageError as error:
        return error
