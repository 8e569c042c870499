"""Lists images for calibration: those of a folder, of a list of paths, or of an array.

Calibration chooses the scales of int8 activations from the values that occur on sample images. A
user gives them as a folder, a .txt file of paths or an .npz file. Image files are not decoded here.
"""

from __future__ import annotations

import math
import os
import posixpath
import struct
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
import numpy.typing as npt

from tinyvit.data.image_lists import read_image_list
from tinyvit.data.listing import read_listing
from tinyvit.data.sampling import order_stratified
from tinyvit.data.source_getters import SourceGetter, make_path_getter
from tinyvit.errors import RequestError
from tinyvit.files.bounded_zip import BoundedZipFile
from tinyvit.images.decoding import MAX_PIXELS, MAX_SIDE

MAX_ARRAY_IMAGES = 200_000
"""Arrays of more images are refused. This limit matters only for small images: MAX_ARRAY_BYTES, the
limit of the pixel data, is reached by 28,000 images of 224 x 224 pixels."""

MAX_ARRAY_BYTES = 4 * 2**30
"""Arrays with more pixel data are refused."""

_REMEDY = (
    "give a folder of images, a folder of class folders, a .txt file of paths or an .npz file"
    " of one array"
)

Pixels: TypeAlias = "npt.NDArray[np.uint8]"
"""RGB values of one or several images, (..., H, W, 3)."""

# numpy writes arrays of numbers in one of these two versions of its format.
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_ARRAY_ERRORS = (
    OSError,
    ValueError,
    LookupError,
    OverflowError,  # positions beyond 64 bits
    struct.error,
    EOFError,
    RuntimeError,
    MemoryError,
    SyntaxError,
    TypeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Errors that zipfile, zlib and numpy raise for damaged files."""

_BLOCK_BYTES = 2**24
"""Number of bytes of pixels that are unpacked at a time."""


@dataclass(frozen=True, slots=True)
class CalibrationImage:
    """One image for calibration that has not been decoded yet.

    Attributes:
        name: Relative path of the image, or "picture 7" for number 7 of an array. The order in
            which images are used depends on the hashes of the names.
        group: Relative path of the folder that contains the image; "" for an image of an array.
            Calibration uses equally many images of each folder, as far as possible.
        get_source: Function that returns the path or the pixels of the image.
    """

    name: str
    group: str
    get_source: SourceGetter


@dataclass(frozen=True)
class CalibrationListing:
    """The images that a user gives for calibration.

    Attributes:
        images: The images, not yet in the order in which they are used.
        notes: Clauses for messages about what else a folder contains, such as hidden files.
    """

    images: tuple[CalibrationImage, ...]
    notes: tuple[str, ...] = ()


def list_calibration_images(data: Path) -> CalibrationListing:
    """List every image that a user gives for calibration.

    Image files are not read, but the array in an .npz file is.

    Args:
        data: A folder of images at any depth; a .txt file with one path per line, relative to the
            folder of that file; or an .npz file that `read_image_array` accepts.

    Raises:
        RequestError: `data` does not exist, is none of these, or cannot be read.
        ImageError: The folder cannot be read, or has no images.
    """
    if os.path.isdir(data):
        listing = read_listing(data)
        images = tuple(_describe_file(key, make_path_getter(data, key)) for key in listing.keys)
        return CalibrationListing(images, listing.notes)
    if not os.path.exists(data):
        raise RequestError(f"{data} does not exist", _REMEDY)
    if data.suffix.lower() == ".txt":
        # Strings take a tenth of the time of Path objects, which matters for a million images.
        folder = str(data.parent)
        paths = (os.path.join(folder, line) for line in read_image_list(data))
        return CalibrationListing(tuple(make_calibration_image(path, folder) for path in paths))
    if data.suffix.lower() == ".npz":
        array = read_image_array(data)
        return CalibrationListing(
            tuple(
                CalibrationImage(
                    # These names must never change: the order depends on their hashes.
                    name=f"picture {index}",
                    group="",
                    get_source=partial(array.__getitem__, index),
                )
                for index in range(len(array))
            )
        )
    raise RequestError(f"{data} is not a source of images", _REMEDY)


def make_calibration_image(path: str | Path, base: str | Path) -> CalibrationImage:
    """Describe an image file for calibration. Its name is its path relative to a base folder.

    Args:
        path: The image file.
        base: The base folder. The file may be outside this folder.
    """
    return _describe_file(_find_relative_path(path, base), make_path_getter(path))


def _describe_file(name: str, get_source: SourceGetter) -> CalibrationImage:
    """Describe an image file by its name, the path relative to a base folder."""
    # The images of a folder share the string of its name.
    group = sys.intern(posixpath.dirname(name) or ".")
    return CalibrationImage(name=name, group=group, get_source=get_source)


def _find_relative_path(path: str | Path, base: str | Path) -> str:
    """Return the path relative to a base folder, with "/" as separator."""
    # In the usual cases, os.path.relpath is avoided, because it takes ten times as long.
    text, folder = os.path.normpath(path), os.path.normpath(base)
    if os.sep == "/" and text.startswith(prefix := os.path.join(folder, "")):
        return text[len(prefix) :]
    if os.sep == "/" and folder == os.curdir and not text.startswith(("/", os.pardir)):
        return text
    return Path(os.path.relpath(path, base)).as_posix()


def order_calibration_images(
    images: Sequence[CalibrationImage], seed: int
) -> list[CalibrationImage]:
    """Order images so that their folders take turns, each giving one image.

    Args:
        images: The images, in any order.
        seed: Determines the order of the folders, and of the images in each folder. The same seed
            and the same names always give the same order.
    """
    return order_stratified(images, _get_name, _get_group, seed)


def read_image_array(path: Path) -> Pixels:
    """Read the only array of an .npz file.

    The pixels are read only if the file contains as many bytes of pixels as the array's header
    states, so a false header cannot make this function allocate much memory.

    Args:
        path: A file that `np.savez(path, images)` wrote.

    Returns:
        RGB pixels, uint8 (N, H, W, 3), N, H and W at least 1.

    Raises:
        RequestError: The file is damaged, too large, or contains anything but such an array.
    """
    try:
        with BoundedZipFile(path) as archive:
            (member,) = archive.infolist()  # a ValueError unless there is exactly one array
            with archive.open(member) as file:
                shape = _read_shape(file)
                size_bytes = math.prod(shape)
                if size_bytes > MAX_ARRAY_BYTES or file.tell() + size_bytes != member.file_size:
                    raise ValueError(
                        f"the header states {size_bytes} bytes of pixels, the file has"
                        f" {member.file_size}, and at most {MAX_ARRAY_BYTES >> 30} GiB are read"
                    )
                # np.empty only reserves addresses; the system provides memory when the blocks are
                # written. So a file whose stated sizes are false does not use much memory.
                pixels = np.empty(shape, np.uint8)
                buffer = pixels.data.cast("B")
                position = 0
                while block := file.read(_BLOCK_BYTES):
                    buffer[position : position + len(block)] = block
                    position += len(block)
                if position != size_bytes:
                    raise ValueError("it is truncated")
                return pixels
    except _ARRAY_ERRORS as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise RequestError(
            f"the array file {path} cannot be used ({reason})",
            "write it with np.savez(file, images), where images is uint8 (N, H, W, 3)",
        ) from error


def _read_shape(file: IO[bytes]) -> tuple[int, ...]:
    """Read the header of an array, and return its shape.

    Raises:
        ValueError: The array is not uint8 (N, H, W, 3) in C order.
    """
    version = np.lib.format.read_magic(file)
    shape, is_fortran_order, dtype = _HEADER_READERS[version](file)
    is_rgb = dtype == np.uint8 and len(shape) == 4 and shape[3] == 3
    if not is_rgb or is_fortran_order or min(shape) < 1:
        raise ValueError(f"it contains {dtype} of shape {shape}")
    if shape[0] > MAX_ARRAY_IMAGES:
        raise ValueError(f"it contains {shape[0]} images, more than {MAX_ARRAY_IMAGES}")
    if shape[1] * shape[2] > MAX_PIXELS or max(shape[1:]) > MAX_SIDE:
        raise ValueError(
            f"an image has {shape[2]} x {shape[1]} pixels, more than {MAX_PIXELS}, or than"
            f" {MAX_SIDE} in a row or column"
        )
    return tuple(shape)


def _get_name(image: CalibrationImage) -> str:
    return image.name


def _get_group(image: CalibrationImage) -> tuple[str, ...]:
    """Return the group as a tuple of one string; `order_stratified` expects a tuple."""
    return (image.group,)
