"""Decodes images in threads, resizes and crops them, and limits the number of unreadable images.

The EXIF orientation of photographs is ignored, as in the evaluations of timm and of the paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from tinyvit.data.calibration_images import Pixels
from tinyvit.data.decoding import choose_decoding_threads, map_ahead
from tinyvit.data.source_getters import SourceGetter
from tinyvit.errors import ImageError, RequestError
from tinyvit.images.decoding import open_image_for_resizing
from tinyvit.preprocess import Preprocess

MAX_UNREADABLE_SHARE = 0.05
"""Largest share of unreadable images, 0 to 1. A data set with a larger share is refused."""

_MAX_FIRST_ERRORS = 1000
"""A data set is refused early if more images than this, and most of those decoded so far, are
unreadable: a list can have more than a million lines that lead to nothing."""


def decode_images(
    getters: Iterable[SourceGetter], preprocess: Preprocess
) -> Iterator[Pixels | ImageError]:
    """Decode, resize and crop images in threads.

    The threads decode a few images in advance, so that the caller does not wait for each image.

    Args:
        getters: One function for each image, which returns its path, its bytes or its pixels.
        preprocess: The preprocessing of the model, which states how images are resized and cropped.

    Yields:
        The RGB pixels of each image, uint8 (H, W, 3), or the error that decoding raised, in order.
    """
    threads = choose_decoding_threads()
    return map_ahead(
        partial(_decode_image, preprocess), getters, threads=threads, ahead=2 * threads + 1
    )


def check_unreadable(
    errors: Sequence[ImageError], image_count: int, readable_count: int | None = None
) -> None:
    """Raise an error if too many images are unreadable.

    Args:
        errors: The error of each unreadable image.
        image_count: Number of all images, readable and unreadable.
        readable_count: Number of readable images so far; None if all images have been decoded.

    Raises:
        RequestError: More than `MAX_UNREADABLE_SHARE` of the images are unreadable, or more than
            1000 images and most of those decoded so far.
    """
    if readable_count is not None and len(errors) > max(_MAX_FIRST_ERRORS, readable_count):
        image_count = len(errors) + readable_count
    if len(errors) > MAX_UNREADABLE_SHARE * image_count:
        raise RequestError(
            f"{len(errors)} of {image_count} images cannot be read; the first error: "
            f"{errors[0].cause}",
            f"{errors[0].remedy}; up to {MAX_UNREADABLE_SHARE:.0%} of the images may be unreadable",
        )


def _decode_image(preprocess: Preprocess, get_source: SourceGetter) -> Pixels | ImageError:
    """Return the pixels of one image, or the error."""
    try:
        return preprocess.resize_and_crop(
            open_image_for_resizing(get_source(), preprocess.resized_size, exif=False)
        )
    except ImageError as error:
        return error
