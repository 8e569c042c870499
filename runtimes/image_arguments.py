"""Interprets the image arguments of `Classifier`: one image or many, of several Python types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from tinyvit.data.listing import list_images
from tinyvit.errors import ImageError, RequestError
from tinyvit.images import ChannelOrder, ImageSource, describe_source, open_image


def to_images(x: ImageSource | Iterable[ImageSource]) -> tuple[bool, Iterable[ImageSource]]:
    """Decide whether an argument is one image or many.

    Args:
        x: One image or many, as for `Classifier.predict`.

    Returns:
        Whether `x` is a single image, and the images.

    Raises:
        RequestError: If `x` is neither one image nor many.
        ImageError: If `x` is a folder without images.
    """
    if isinstance(x, (str, Path)) and Path(x).is_dir():
        return False, list_images(Path(x))
    if isinstance(x, np.ndarray) and x.ndim == 4:
        return False, iter(x)
    if isinstance(x, (str, Path, bytes, bytearray, memoryview, Image.Image, np.ndarray)):
        return True, [x]
    if (
        isinstance(x, Iterable)
        and not isinstance(x, (Mapping, set, frozenset))
        and not hasattr(x, "read")
    ):
        return False, x
    raise RequestError(
        f"{describe_source(x)} is not an image",
        "give a path, bytes, a Pillow image, a uint8 array, or a list of these; for an open file,"
        " give the bytes that read() returns",
    )


def copy_if_reused(
    image: ImageSource, channels: ChannelOrder, exif: bool
) -> ImageSource | ImageError:
    """Copy an image whose memory the caller may overwrite with the next image.

    Some camera libraries, for example, return the same buffer for every frame.

    Args:
        image: One image.
        channels: Order of the channels in arrays.
        exif: Whether to rotate images as their EXIF orientation states.

    Returns:
        The image itself if it is a path or immutable bytes, otherwise a copy; the error if it
        cannot be read.
    """
    if isinstance(image, (str, Path, bytes)):
        return image
    if isinstance(image, (bytearray, memoryview)):
        return bytes(image)
    try:
        return open_image(image, channels=channels, exif=exif)
    except ImageError as error:
        return error


def with_index(error: ImageError, index: int) -> ImageError:
    """Return the same error with the index of the image in its cause."""
    return ImageError(f"image {index}: {error.cause}", error.remedy)
