"""Listing the image files under a folder, by one rule for the whole project.

Hidden files and folders and those that an operating system or a storage device creates are skipped.
Symbolic links to folders are followed, and no folder is read twice, so a cycle of links ends.
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

ImageReader: TypeAlias = "Callable[[], ImageSource]"
"""Returns an image for `tinyvit.images.open_image`, such as a path or the bytes of a file."""

_WEB_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp")
_OTHER_SUFFIXES = (
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
IMAGE_SUFFIXES = frozenset(_WEB_SUFFIXES + _OTHER_SUFFIXES)
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
    """Tell whether a file or folder of this name is hidden or belongs to the operating system.

    Args:
        name: The last component of a path.
    """
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def is_image_path(path: Path) -> bool:
    """Tell whether a file name is that of an image. Hidden files such as "._cat.jpg" are not.

    Args:
        path: The file, which is not opened. The folders above it do not matter.
    """
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_ignored_name(path.name)


def list_images(folder: Path) -> list[Path]:
    """List the image files under a folder, at any depth.

    Hidden and system entries are skipped. Links to folders are followed, and each folder is read
    once. A folder that is reachable both directly and through a link is listed by its direct path.

    Args:
        folder: The folder to search. Its own name may be hidden.

    Returns:
        The paths of the images, sorted. Each begins with `folder`.

    Raises:
        ImageError: A folder cannot be read, or there are no images.
    """
    try:
        images = sorted(_walk(folder))
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
    """List the names of the folders directly in a folder, links to folders included.

    Args:
        folder: An existing folder.

    Returns:
        The names, sorted, without hidden and system folders.
    """
    return sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not is_ignored_name(path.name)
    )


def path_reader(path: Path) -> ImageReader:
    """Return a reader for an image that is a file of its own. It returns the path.

    Args:
        path: The image file, which the decoder opens.
    """
    return partial(Path, path)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the image files under a folder. Linked folders come after all others."""
    visited: set[object] = set()
    linked = deque([folder])
    while linked:
        pending = deque([linked.popleft()])
        while pending:
            current = pending.popleft()
            identity = _folder_identity(current)
            if identity in visited:
                continue
            visited.add(identity)
            for entry in _sorted_entries(current):
                path = current / entry.name
                if _is_folder(entry):
                    (linked if entry.is_symlink() else pending).append(path)
                elif is_image_path(path):
                    yield path


def _sorted_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder that are not ignored, by name."""
    with os.scandir(folder) as entries:
        kept = [entry for entry in entries if not is_ignored_name(entry.name)]
    return sorted(kept, key=_entry_name)


def _entry_name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder or a link to one. A link to itself is not."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def _folder_identity(folder: Path) -> object:
    """Return a value that is the same for every path of one folder."""
    status = os.stat(folder)
    # Some network file systems number no files: then every folder would look like the first one.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(folder)
