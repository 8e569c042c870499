"""Interprets the image arguments of `Classifier`: one image or many, of several Python types."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from tinyvit.data.listing import list_images
from tinyvit.errors import ImageError, RequestError
from tinyvit.files.file_io import expand_home
from tinyvit.images.arrays import SupportsArray, is_array_like, is_torch_tensor, to_numpy
from tinyvit.images.decoding import ChannelOrder, ImageSource, open_image
from tinyvit.images.diagnosis import describe_source

_KINDS_OF_OBJECTS = "OTU"
"""Kinds of numpy dtypes whose elements are Python objects (O) or strings (T, U), such as paths."""


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
    if isinstance(x, (str, os.PathLike)):
        folder = find_folder(x)
        if folder is not None:
            return ImageArgument(is_single=False, images=list_images(folder))
        return ImageArgument(is_single=True, images=[x])
    if isinstance(x, (bytes, bytearray, memoryview, Image.Image)):
        return ImageArgument(is_single=True, images=[x])
    if is_array_like(x):
        return _interpret_array(x)
    is_open_file = hasattr(x, "read")
    is_unordered = isinstance(x, (Mapping, set, frozenset))
    if isinstance(x, Iterable) and not is_unordered and not is_open_file:
        return ImageArgument(is_single=False, images=x)
    raise RequestError(
        f"{describe_source(x)} is not an image",
        "give a path, bytes, a Pillow image, a uint8 array or tensor, or a list of these; for an"
        " open file, give the bytes that read() returns",
    )


def find_folder(path: str | os.PathLike[str]) -> Path | None:
    """Find the folder that a path leads to.

    Args:
        path: A path, or any other text.

    Returns:
        The folder; None if the path leads to a file or to nothing, or is no path at all.
    """
    text = os.fsdecode(path)
    # os.path.isdir, unlike Path.is_dir, raises no error for text that is too long for a path.
    if os.path.isdir(text):
        return Path(text)
    if text.startswith("~") and os.path.isdir(os.path.expanduser(text)):
        return expand_home(text)
    return None


def _interpret_array(array: SupportsArray) -> ImageArgument:
    """Decide whether an array holds one image, a batch of images, or paths and other objects."""
    dimensions = len(array.shape)
    is_batch = dimensions == 4
    if is_torch_tensor(array):
        items: Iterable[ImageSource] = array  # type: ignore[assignment]  # tensors are iterable
        return ImageArgument(is_single=not is_batch, images=items if is_batch else [array])
    values = to_numpy(array)
    if values.dtype.kind == "S":
        raise RequestError(
            f"{describe_source(array)} may have lost bytes, because numpy removes zero bytes at"
            " the end of each element",
            "give a list of bytes objects",
        )
    if values.dtype.kind not in _KINDS_OF_OBJECTS:
        return ImageArgument(is_single=not is_batch, images=iter(values) if is_batch else [values])
    if dimensions == 0:
        return interpret_image_argument(values.item())
    if dimensions == 1:
        return ImageArgument(is_single=False, images=list(values))
    raise RequestError(
        f"{describe_source(array)} has {dimensions} axes of objects",
        "give paths or images in an array with one axis, or in a list",
    )


def copy_if_mutable(
    image: ImageSource, channels: ChannelOrder, exif: bool
) -> ImageSource | ImageError:
    """Copy an image unless it is immutable: the caller may overwrite it with the next image.

    Some camera libraries, for example, return the same buffer for every frame.

    Args:
        image: One image.
        channels: Order of the channels if the image is an array. The copy is RGB.
        exif: Whether to rotate a Pillow image as its EXIF orientation states.

    Returns:
        The image itself if it is a path or immutable bytes; bytes for a bytearray or a memoryview;
        a new Pillow image, which `open_image` makes, for an array or a Pillow image. An ImageError
        if the image cannot be read.
    """
    if isinstance(image, (str, os.PathLike, bytes)):
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
