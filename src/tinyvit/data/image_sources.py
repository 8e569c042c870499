"""Images to calibrate with: a folder, a list of paths or an array, listed without decoding them."""

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

from tinyvit.data.listing import ImageReader, list_images, path_reader
from tinyvit.data.sampling import order_stratified
from tinyvit.errors import RequestError

MAX_LIST_BYTES = 64 * 2**20
MAX_ARRAY_BYTES = 4 * 2**30
KINDS = (
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
"""What zipfile, zlib and numpy raise for damaged files."""


@dataclass(frozen=True)
class SourceImage:
    """One image of a source that has not been read yet.

    Attributes:
        name: The name of the image within its source. The order and the seed depend on it.
        group: The folder that it lies in. Groups contribute equally to a sample.
        read: Returns the image for `tinyvit.images.open_image`: a path or an array.
    """

    name: str
    group: str
    read: ImageReader


def list_source_images(source: Path) -> list[SourceImage]:
    """List every image of a source. Only an .npz file is read.

    Args:
        source: A folder of images at any depth; a .txt file with one path per line, relative to the
            file; or an .npz file as `read_image_array` takes it.

    Raises:
        RequestError: The source does not exist or is of another kind, or a list or an array cannot
            be read.
        ImageError: The folder cannot be read, or has no images.
    """
    if source.is_dir():
        return [source_image(path, source) for path in list_images(source)]
    if not source.is_file():
        raise RequestError(f"{source} does not exist", KINDS)
    if source.suffix.lower() == ".txt":
        return [source_image(source.parent / line, source.parent) for line in _read_lines(source)]
    if source.suffix.lower() == ".npz":
        array = read_image_array(source)
        return [
            # The name enters the hash that orders the images: it must never change.
            SourceImage(f"picture {index}", "", partial(array.__getitem__, index))
            for index in range(len(array))
        ]
    raise RequestError(f"{source} is not a source of images", KINDS)


def source_image(path: Path, base: Path) -> SourceImage:
    """Describe an image file by its path from a base folder.

    Args:
        path: The image file.
        base: The folder that the name is relative to. The file may lie outside it.
    """
    name = Path(os.path.relpath(path, base))
    return SourceImage(name.as_posix(), name.parent.as_posix(), path_reader(path))


def order_source_images(images: list[SourceImage], seed: int) -> list[SourceImage]:
    """Order images so that every folder contributes one in turn, drawn by a seed.

    Args:
        images: The images of a source, in any order.
        seed: Another seed gives another order. The same seed and names give the same order.
    """
    return order_stratified(images, _image_name, _image_group, seed)


def read_image_array(path: Path) -> Pixels:
    """Read the only array of an .npz file.

    Memory is allocated only where the header of the array and the size in the file agree.

    Args:
        path: A file that `np.savez(path, images)` wrote.

    Returns:
        RGB pixels, uint8 (N, H, W, 3), N, H and W at least 1.

    Raises:
        RequestError: The file is damaged, too large, or holds anything else.
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
    """Read the header of an array and refuse all but uint8 (N, H, W, 3) in C order."""
    version = np.lib.format.read_magic(file)
    shape, is_fortran_order, dtype = _HEADER_READERS[version](file)
    is_rgb = dtype == np.uint8 and len(shape) == 4 and shape[3] == 3
    if not is_rgb or is_fortran_order or min(shape) < 1:
        raise ValueError(f"it holds {dtype} of shape {shape}")
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
