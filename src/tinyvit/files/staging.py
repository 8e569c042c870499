"""Staging folders: temporary folders in which files are written before they get their final path.

A staging folder ".NAME.TOKEN" is beside the file NAME that is about to be written. A process locks
the file ".NAME.TOKEN.lock" as long as it uses the folder. If the process is killed, both remain,
and the next process that writes into the same folder removes them.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tinyvit.files.file_locks import FileLock, ensure_folder, remove_file, take_lock

_TOKEN_BYTES = 5
"""Random bytes in the name of a staging folder. The longest file name of most systems is 255 bytes,
and the name of the lock is 17 bytes longer than that of the file that is written."""

_RETRY_INTERVAL_S = 0.001
"""Time between two attempts to lock a new file, in seconds."""

_LOCK_SUFFIX = ".lock"
_LOCK_NAME = re.compile(rf"\..+\.[0-9a-f]{{{2 * _TOKEN_BYTES}}}{re.escape(_LOCK_SUFFIX)}", re.S)
"""Name of the lock of a staging folder."""


@contextmanager
def staging_folder(path: Path) -> Iterator[Path]:
    """Create a temporary folder beside a file that is about to be written.

    The folder is always removed at the end, even after Ctrl-C or on a full disk. Parent folders of
    `path` that this function created are removed too if they are empty. Staging folders that killed
    processes left in the folder of `path` are removed first.

    Args:
        path: The file that will be written. Its parent folders are created.

    Yields:
        A new empty folder in the folder of `path`, so that files in it can be renamed to `path`.

    Raises:
        OSError: A file or folder cannot be written. It names `path`.
    """
    folder = _choose_folder(path)
    with ensure_folder(path.parent):
        try:
            with _locked_folder(folder):
                yield folder
        except OSError as error:
            # Nobody knows the staging folder, and functions for open files name no file at all.
            if error.filename is None or str(error.filename).startswith(str(folder)):
                error.filename = str(path)
            raise


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Create a staging folder in the system's folder for temporary files.

    Unlike a folder of the module `tempfile`, it is removed by the next call of this function if the
    process is killed.

    Yields:
        A new empty folder.

    Raises:
        OSError: No folder for temporary files is writable.
    """
    folder = _choose_folder(Path(tempfile.gettempdir(), "tinyvit"))
    with _locked_folder(folder):
        yield folder


def remove_abandoned_folders(folder: Path) -> None:
    """Remove the staging folders, and their locks, of processes that do not exist any more.

    A folder without a lock, such as one of the user with a similar name, is never removed.

    Args:
        folder: The folder that contains the staging folders.
    """
    try:
        names = os.listdir(folder)
    except OSError:  # a folder that cannot be listed may still be writable
        return
    for name in filter(_LOCK_NAME.fullmatch, names):
        with suppress(OSError):  # the lock belongs to another user, or was removed just now
            lock = take_lock(folder / name, may_create=False)
            if lock is not None and lock.excludes_others:
                shutil.rmtree(folder / name.removesuffix(_LOCK_SUFFIX), ignore_errors=True)
                lock.release()


def _choose_folder(path: Path) -> Path:
    """Choose the name of a staging folder for a path.

    It is chosen before the folder is created: a signal can arrive as soon as the folder exists, and
    the cleanup needs its name.
    """
    return path.parent / f".{path.name}.{secrets.token_hex(_TOKEN_BYTES)}"


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """Create a staging folder and its lock, and remove both at the end."""
    remove_abandoned_folders(folder.parent)
    lock_file = folder.with_name(folder.name + _LOCK_SUFFIX)
    lock: FileLock | None = None
    try:
        # The lock is older than the folder, so that no process takes the folder for abandoned.
        lock = _take_new_lock(lock_file)
        folder.mkdir(mode=0o700)
        yield
    finally:
        try:
            _remove(folder, lock, lock_file)
        finally:  # a signal may have interrupted the removal
            _remove(folder, lock, lock_file)


def _remove(folder: Path, lock: FileLock | None, lock_file: Path) -> None:
    """Remove a staging folder and its lock. Calling it again has no effect."""
    shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        lock.release()
    # A signal may have arrived after the file was created, and before `lock` was set.
    remove_file(lock_file)


def _take_new_lock(path: Path) -> FileLock:
    """Lock a new file. Another process may hold it for a moment, to see whether it is abandoned."""
    while (lock := take_lock(path)) is None:
        time.sleep(_RETRY_INTERVAL_S)
    return lock
