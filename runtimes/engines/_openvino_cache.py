"""The folder in which OpenVINO keeps compiled models, and its lock."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinyvit.errors import RequestError
from tinyvit.files.file_locks import FOLDER_LOCK_NAME, hold_lock

_MAX_WAIT_S = 600.0
"""How long to wait for another process that compiles into the same folder, in seconds. Compiling
for a CPU takes seconds, and for an NPU it can take minutes."""


@contextmanager
def open_cache_folder(cache: str | Path | None) -> Iterator[dict[str, str]]:
    """Create the cache folder, and keep it from other processes while a model is compiled.

    A second process that opens the same artifact at the same time waits, and then loads what the
    first has compiled, instead of reading a file that is still being written. The folder is not
    locked if this process cannot write to it, because then OpenVINO only reads it.

    Args:
        cache: The folder; None to keep nothing.

    Yields:
        OpenVINO's properties that turn the cache on.

    Raises:
        RequestError: The folder cannot be created, or another process uses it for ten minutes.
    """
    if cache is None:
        yield {}
        return
    folder = Path(cache)
    try:
        # Without the folder, OpenVINO would silently cache nothing.
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"the cache folder {folder} cannot be created ({error.strerror})",
            "give --cache a folder with write permission",
        ) from error
    properties = {"CACHE_DIR": str(folder)}
    if not os.access(folder, os.W_OK):
        yield properties
        return
    lock_file = folder / FOLDER_LOCK_NAME
    with hold_lock(
        lock_file, f"the cache folder {folder}", "give --cache another folder", _MAX_WAIT_S
    ):
        yield properties
