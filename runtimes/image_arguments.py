"""Interprets the image arguments of `Classifier`: one image or many, of several Python types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tinyvit.data.listing import list_images
from tinyvit.errors import ImageError, RequestError
from tinyvit.images import ChannelOrder, ImageSource, describe_source, open_image


class ImageArgument(NamedTuple):
    """The images that a caller passed as one argument.

    Attributes:
        is_single: Whether the argument is one image, not a collection of images.
        images: The images; a collection with one element for a single image.
    """

    is_single: bool
    images: Iterable[ImageSource]


def interpret_image_argument(x: ImageSource | Iterable[ImageSource]) -> ImageArgument:
    """Decide whether an argument is one image or many.

    Args:
        x: One image or many, as for `Classifier.predict`.

    Returns:
        The images, and whether `x` is a single one.

    Raises:
        RequestError: If `x` is neither one image nor many.
        ImageError: If `x` is a folder without images.
    """
    if isinstance(x, (str, Path)) and Path(x).is_dir():
        return ImageArgument(is_single=False, images=list_images(Path(x)))
    if isinstance(x, np.ndarray) and x.ndim == 4:
        return ImageArgument(is_single=False, images=iter(x))
    if isinstance(x, (str, Path, bytes, bytearray, memoryview, Image.Image, np.ndarray)):
        return ImageArgument(is_single=True, images=[x])
    is_open_file = hasattr(x, "read")
    is_unordered = isinstance(x, (Mapping, set, frozenset))
    if isinstance(x, Iterable) and not is_unordered and not is_open_file:
        return ImageArgument(is_single=False, images=x)
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
        The image itself if it is a path or immutable bytes, otherwise a copy; an ImageError if the
        image cannot be read.
    """
    if isinstance(image, (str, Path, bytes)):
        return image
    if isinstance(image, (bytearray, memoryview)):
        return bytes(image)
    try:
        return open_image(image, channels=channels, exif=exif)
    except ImageError as error:
        return error


def add_index(error: ImageError, index: int) -> ImageError:
    """Return a copy of an error whose cause begins with the index of the image."""
    return ImageError(f"image {index}: {error.cause}", error.remedy)
