"""Listing images for calibration: those of a folder, of a list of paths, or of an array.

Calibration chooses the scales of int8 activations from the values that occur on sample images. An
image source is a folder, a .txt file of paths or an .npz file. Image files are not decoded here.
"""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
import numpy.typing as npt

from tinyvit.data.listing import SourceGetter, list_images, make_path_getter
from tinyvit.data.sampling import order_stratified
from tinyvit.errors import RequestError

MAX_LIST_BYTES = 64 * 2**20
"""Larger lists of paths are refused."""

MAX_ARRAY_BYTES = 4 * 2**30
"""Arrays with more pixel data are refused."""

SOURCE_REMEDY = (
    "give a folder of images, a folder of class folders, a .txt file of paths or an .npz file"
    " of one array"
)

Pixels: TypeAlias = "npt.NDArray[np.uint8]"

_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_ARRAY_ERRORS = (
    *(OSError, ValueError, LookupError, EOFError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)
"""Errors that zipfile, zlib and numpy raise for damaged files."""


@dataclass(frozen=True)
class SourceImage:
    """One image of a source that has not been read yet.

    Attributes:
        name: Name of the image within its source. `order_source_images` orders by its hash.
        group: Folder that contains the image. A sample contains equally many images of each group.
        read: Function that returns the image for `tinyvit.images.open_image`: a path or an array.
    """

    name: str
    group: str
    read: SourceGetter


def list_source_images(source: Path) -> list[SourceImage]:
    """List every image of a source. Only an .npz file is read.

    Args:
        source: A folder of images at any depth; a .txt file with one path per line, relative to the
            folder of that file; or an .npz file that `read_image_array` accepts.

    Raises:
        RequestError: The source does not exist or is of another kind, or a list or an array cannot
            be read.
        ImageError: The folder cannot be read, or has no images.
    """
    if source.is_dir():
        return [make_source_image(path, source) for path in list_images(source)]
    if not source.is_file():
        raise RequestError(f"{source} does not exist", SOURCE_REMEDY)
    if source.suffix.lower() == ".txt":
        return [
            make_source_image(source.parent / line, source.parent) for line in _read_lines(source)
        ]
    if source.suffix.lower() == ".npz":
        array = read_image_array(source)
        return [
            # These names must never change: `order_source_images` orders by their hashes.
            SourceImage(f"picture {index}", "", partial(array.__getitem__, index))
            for index in range(len(array))
        ]
    raise RequestError(f"{source} is not a source of images", SOURCE_REMEDY)


def make_source_image(path: Path, base: Path) -> SourceImage:
    """Create the entry of an image file, named by its path relative to a base folder.

    Args:
        path: The image file.
        base: The folder that the name is relative to. The file may be outside this folder.
    """
    name = Path(os.path.relpath(path, base))
    return SourceImage(name.as_posix(), name.parent.as_posix(), make_path_getter(path))


def order_source_images(images: list[SourceImage], seed: int) -> list[SourceImage]:
    """Order images so that the folders take turns, each giving one image, as the seed decides.

    Args:
        images: The images of a source, in any order.
        seed: Seed of the order. The same seed and the same names always give the same order.
    """
    return order_stratified(images, _image_name, _image_group, seed)


def read_image_array(path: Path) -> Pixels:
    """Read the only array of an .npz file.

    The pixels are read only if the size in the array's header equals the size in the file, so a
    false header cannot make this function allocate much memory.

    Args:
        path: A file that `np.savez(path, images)` wrote.

    Returns:
        RGB pixels, uint8 (N, H, W, 3), N, H and W at least 1.

    Raises:
        RequestError: The file is damaged, too large, or contains anything but such an array.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (member,) = archive.infolist()
            with archive.open(member) as file:
                shape = _read_shape(file)
                size_bytes = math.prod(shape)
                if size_bytes > MAX_ARRAY_BYTES or file.tell() + size_bytes != member.file_size:
                    raise ValueError(
                        f"the header states {size_bytes} bytes of pixels, the file has"
                        f" {member.file_size}, and at most {MAX_ARRAY_BYTES >> 30} GiB are read"
                    )
                return np.frombuffer(file.read(), np.uint8).reshape(shape)
    except _ARRAY_ERRORS as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise RequestError(
            f"the array file {path} cannot be used ({reason})",
            "write it with np.savez(file, images), where images is uint8 (N, H, W, 3)",
        ) from error


def _read_shape(file: IO[bytes]) -> tuple[int, ...]:
    """Read the header of an array; raise ValueError unless it is uint8 (N, H, W, 3) in C order."""
    version = np.lib.format.read_magic(file)
    shape, is_fortran_order, dtype = _HEADER_READERS[version](file)
    is_rgb = dtype == np.uint8 and len(shape) == 4 and shape[3] == 3
    if not is_rgb or is_fortran_order or min(shape) < 1:
        raise ValueError(f"it contains {dtype} of shape {shape}")
    return tuple(shape)


def _read_lines(path: Path) -> list[str]:
    """Read the lines of a list of paths, without the empty ones."""
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise ValueError(f"it is larger than {MAX_LIST_BYTES >> 20} MiB")
        text = path.read_text(encoding="utf-8-sig")
        if "\0" in text:
            raise ValueError("it is not text")
    except (OSError, ValueError) as error:
        raise RequestError(
            f"the list {path} cannot be read ({error})", "give one path per line, in UTF-8"
        ) from error
    return [line for line in map(str.strip, text.splitlines()) if line]


def _image_name(image: SourceImage) -> str:
    return image.name


def _image_group(image: SourceImage) -> tuple[str, ...]:
    return (image.group,)
