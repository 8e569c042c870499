"""The images that callers of `Classifier` pass: one or many, and in which form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from tinyvit.data.listing import list_images
from tinyvit.errors import ImageError, RequestError
from tinyvit.images import ChannelOrder, ImageSource, describe_source, open_image


def to_images(x: ImageSource | Iterable[ImageSource]) -> tuple[bool, Iterable[ImageSource]]:
    """Tell one image from many.

    Args:
        x: One image or many, as for `Classifier.predict`.

    Returns:
        Whether `x` is a single image, and the images.

    Raises:
        RequestError: If `x` is neither.
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
        "give a path, bytes, a Pillow image, a uint8 array, or a list of these; of an open file,"
        " give what read() returns",
    )


def copy_if_reused(
    image: ImageSource, channels: ChannelOrder, exif: bool
) -> ImageSource | ImageError:
    """Copy an image whose memory its iterator may use again for the next image.

    Cameras, for example, hand out the same buffer, array or Pillow image again with the next frame
    in it.

    Args:
        image: One image.
        channels: Order of the channels in arrays.
        exif: Turn images upright as their EXIF data states.

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
    """Return the same error with the image's index in its cause."""
    return ImageError(f"image {index}: {error.cause}", error.remedy)
