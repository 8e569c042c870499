"""Functions that return the source of an image, such as its path, when the image is decoded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from tinyvit.images.decoding import ImageSource

SourceGetter: TypeAlias = "Callable[[], ImageSource]"
"""A function without arguments that returns a path, the bytes of an image file, or an array.
`tinyvit.images.decoding.open_image` accepts what the function returns. The function does not decode
the image."""


def make_path_getter(path: str | Path, relative_path: str = "") -> SourceGetter:
    """Return a function without arguments that returns the path of an image file.

    This is the `SourceGetter` of an image that is a file. An image inside an archive or a table
    needs a `SourceGetter` that returns bytes.

    Args:
        path: The image file, which is not read, or a folder.
        relative_path: If `path` is a folder, the path of the image file in it. The functions of
            many images then share the string of the folder.
    """
    return _PathGetter(os.fspath(path), relative_path)


class _PathGetter:
    """A function that returns a path.

    A data set may have a million images. This object takes 48 bytes, a `functools.partial` four
    times as many; and a string takes a quarter of the memory of a `Path`.
    """

    __slots__ = ("_folder", "_relative_path")

    def __init__(self, folder: str, relative_path: str) -> None:
        self._folder = folder
        self._relative_path = relative_path

    def __call__(self) -> Path:
        """Return the path."""
        return Path(self._folder, self._relative_path)
