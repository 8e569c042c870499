"""Listing the image files under a folder. The whole project uses these functions.

Files and folders that are hidden, or that an operating system or a storage device creates, are
skipped. Symbolic links to folders are followed. Each folder is read only once, so cyclic links are
harmless.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias

from tinyvit.errors import ImageError
from tinyvit.images import ImageSource

SourceGetter: TypeAlias = "Callable[[], ImageSource]"
"""A function without arguments that returns a path, the bytes of an image file, or an array.
`tinyvit.images.open_image` accepts what the function returns. The function does not decode the
image."""

IMAGE_SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".png",
        ".webp",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".jp2",
        ".avif",
        ".heic",
        ".heif",
    )
)
"""File name endings that mark an image, in lower case."""

SYSTEM_NAMES = frozenset(
    (
        "__macosx",  # resource forks in archives made by macOS
        "thumbs.db",  # Windows Explorer
        "desktop.ini",
        "$recycle.bin",
        "system volume information",
        "@eadir",  # thumbnails on Synology devices
        "#recycle",
        "@recycle",  # QNAP devices
        "lost+found",  # the root of an ext file system
    )
)
"""Names of files and folders that are never data, in lower case."""


def is_ignored_name(name: str) -> bool:
    """Return whether a file or folder of this name is hidden or belongs to the operating system.

    Args:
        name: The last component of a path.
    """
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def is_image_path(path: Path) -> bool:
    """Return whether a file name has the suffix of an image and is no hidden or system name.

    "._cat.jpg" is hidden, for example.

    Args:
        path: The file, which is not opened. Only its name matters: its folders may be hidden.
    """
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_ignored_name(path.name)


def list_images(folder: Path) -> list[Path]:
    """List the image files under a folder, at any depth.

    Hidden and system files and folders are skipped. Links to folders are followed, and each folder
    is read once. If a folder can be reached directly and through a link, its direct path is used.

    Args:
        folder: The folder to search, which may itself be hidden.

    Returns:
        The sorted paths of the images, each beginning with `folder`.

    Raises:
        ImageError: A folder cannot be read, or there are no images.
    """
    try:
        images = sorted(_find_images(folder))
    except OSError as error:
        raise ImageError(
            f"the folder {error.filename or folder} cannot be read ({error.strerror})",
            "check the path and its permissions",
        ) from error
    if not images:
        raise ImageError(
            f"the folder {folder} has no images",
            f"put images in it, whose names end with one of {' '.join(sorted(IMAGE_SUFFIXES))}",
        )
    return images


def list_subfolders(folder: Path) -> list[str]:
    """List the names of the direct subfolders of a folder, including links to folders.

    Args:
        folder: An existing folder.

    Returns:
        The sorted names, without hidden and system folders.
    """
    return sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not is_ignored_name(path.name)
    )


def make_path_getter(path: Path) -> SourceGetter:
    """Return a function without arguments that returns the path of an image file.

    This is the `SourceGetter` of an image that is a file. An image inside an archive or a table
    needs a `SourceGetter` that returns bytes.

    Args:
        path: The image file, which is not read.
    """
    return partial(Path, path)


def _find_images(folder: Path) -> Iterator[Path]:
    """Yield the image files under a folder. Linked folders are read after all others."""
    visited: set[object] = set()
    starts = deque([folder])  # the folder, then the links found in it
    while starts:
        pending = deque([starts.popleft()])
        while pending:
            current = pending.popleft()
            identity = _identify_folder(current)
            if identity in visited:
                continue
            visited.add(identity)
            for entry in _list_entries(current):
                path = current / entry.name
                if _is_folder(entry):
                    queue = starts if entry.is_symlink() else pending
                    queue.append(path)
                elif is_image_path(path):
                    yield path


def _list_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the files and folders in a folder, sorted by name, without the ignored ones."""
    with os.scandir(folder) as entries:
        kept = [entry for entry in entries if not is_ignored_name(entry.name)]
    return sorted(kept, key=_get_entry_name)


def _get_entry_name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; False for a link to itself."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def _identify_folder(folder: Path) -> object:
    """Return a value that is equal for all paths that lead to the same folder."""
    status = os.stat(folder)
    # Some network file systems report inode 0 for every file. By inode, all folders would then
    # be the same one, so their real paths are compared instead.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(folder)
