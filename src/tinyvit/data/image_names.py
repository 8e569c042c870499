"""Decides by names which files are images, and which files and folders are ignored.

All code that looks for images uses these functions, in folders and in tar files.
"""

from __future__ import annotations

import os
from pathlib import Path

IMAGE_SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
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
        "ehthumbs.db",
        "desktop.ini",
        "$recycle.bin",
        "recycler",
        "recycled",
        "system volume information",
        "@eadir",  # thumbnails on Synology devices
        "#recycle",
        "#snapshot",
        "@recycle",  # QNAP devices
        "@tmp",  # Synology devices
        "_vti_cnf",  # Microsoft FrontPage
        "_vti_pvt",
        "lost+found",  # the root of an ext file system
        "__pycache__",
    )
)
"""Names of files and folders that are never data, in lower case."""


def is_ignored_name(name: str) -> bool:
    """Return whether a file or folder is hidden, a backup copy, or of the operating system.

    Args:
        name: The last component of a path.
    """
    # Editors and file managers add "~" to the names of copies that they keep.
    return name.startswith(".") or name.endswith("~") or name.lower() in SYSTEM_NAMES


def is_image_path(path: Path) -> bool:
    """Return whether a file name has the suffix of an image and is no hidden or system name.

    "._cat.jpg" is hidden, for example.

    Args:
        path: The file, which is not opened. Only its name matters: its folders may be hidden.
    """
    return is_image_name(path.name)


def is_image_name(name: str) -> bool:
    """Return whether a file name has the suffix of an image and is no hidden or system name.

    Args:
        name: The last component of a path.
    """
    suffix = os.path.splitext(name)[1]
    return suffix.lower() in IMAGE_SUFFIXES and not is_ignored_name(name)
