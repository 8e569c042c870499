"""Where pictures to calibrate with come from: a folder, a list of paths or an array -> `ImageItem`s, of which nothing has been read yet."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tinyvit.errors import RequestError
from tinyvit.images import ImageSource, list_images

MAX_LIST_BYTES, MAX_ARRAY_BYTES = 64 * 2**20, 4 * 2**30
SOURCES = (
    "give a folder of images, a folder of class folders, a .txt of paths or an .npz of one array"
)

Pixels: TypeAlias = "npt.NDArray[np.uint8]"


@dataclass(frozen=True)
class ImageItem:
    """One picture to come: its name in its source (for order and messages), the group it shares evenly in, how to get at it."""

    name: str
    group: str
    picture: Callable[[], ImageSource]


def list_items(data: Path) -> list[ImageItem]:
    """Everything that might be a picture there; nothing but an .npz has been read yet."""
    if data.is_dir():
        return [make_item(path, data) for path in list_images(data)]
    if not data.is_file():
        raise RequestError(f"{data} does not exist", SOURCES)
    if data.suffix.lower() == ".txt":
        return [make_item(data.parent / line, data.parent) for line in _lines(data)]
    if data.suffix.lower() == ".npz":
        array = read_array(data)
        return [
            ImageItem(f"picture {i}", "", partial(array.__getitem__, i)) for i in range(len(array))
        ]
    raise RequestError(f"{data} is no source of images", SOURCES)


def make_item(path: Path, base: Path) -> ImageItem:
    """A file, by its path from `base`."""
    name = Path(os.path.relpath(path, base))
    return ImageItem(name.as_posix(), name.parent.as_posix(), lambda: path)


def _lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise ValueError(f"larger than {MAX_LIST_BYTES >> 20} MiB")
        text = path.read_text(encoding="utf-8-sig")
        if "\0" in text:
            raise ValueError("not text")
    except (OSError, ValueError) as error:
        raise RequestError(
            f"the list {path} cannot be read ({error})", "give a path a line, in UTF-8"
        ) from error
    return [line for line in map(str.strip, text.splitlines()) if line]


def read_array(path: Path) -> Pixels:
    """The one array of an .npz, uint8 (N, H, W, 3); memory is set aside only for what its header and the file agree on."""
    try:
        with zipfile.ZipFile(path) as archive:
            (member,) = archive.infolist()
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read_header = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, fortran, dtype = read_header(file)
                size = math.prod(shape)
                if (
                    dtype != np.uint8
                    or len(shape) != 4
                    or shape[3] != 3
                    or fortran
                    or min(shape) < 1
                ):
                    raise ValueError(f"it holds {dtype} of shape {shape}")
                if size > MAX_ARRAY_BYTES or file.tell() + size != member.file_size:
                    raise ValueError(
                        f"{size} bytes by its header, {member.file_size} by its directory, {MAX_ARRAY_BYTES >> 30} GiB at most"
                    )
                return np.frombuffer(file.read(), np.uint8).reshape(shape)
    except (
        OSError,
        ValueError,
        LookupError,
        EOFError,
        RuntimeError,
        MemoryError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise RequestError(
            f"{path} cannot be used ({reason})",
            "give np.savez(file, images), images uint8 (N, H, W, 3)",
        ) from error
