"""Locks, with which one process keeps a folder or a file to itself.

A lock is an empty file that a process has opened and locked. The operating system releases the lock
when the process ends, even if it was killed. So a file that can be locked belongs to no living
process, which a process id cannot show: the system gives the id of a dead process to a new one.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tinyvit.errors import RequestError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FOLDER_LOCK_NAME = ".lock"
"""Name of the lock for everything in a folder."""

_HELD_BY_ANOTHER = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK)
"""Error numbers of a lock that another process holds."""

_MAX_ATTEMPTS = 100
"""Number of attempts to lock a file that another process removes at the same time. One attempt more
is needed each time that this happens, so the limit only prevents an endless loop."""

_POLL_INTERVAL_S = 0.1
"""Time between two attempts to take a lock that another process holds, in seconds."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Error numbers of a file system that has no locks."""

_OPEN_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""How a lock's file is opened. Symbolic links are not followed, and a pipe does not block."""

_held_descriptors: set[int] = set()
"""The descriptors of all locks that this process holds."""


class FileLock:
    """A lock that this process holds. `take_lock` creates it.

    Attributes:
        excludes_others: False on a file system without locks, such as some network file systems.
    """

    def __init__(self, path: Path, descriptor: int | None) -> None:
        """Remember a file that is locked.

        Args:
            path: The file.
            descriptor: Descriptor of the open file; None if the file system has no locks.
        """
        self.excludes_others = descriptor is not None
        self._path, self._descriptor = path, descriptor
        if descriptor is not None:
            _held_descriptors.add(descriptor)

    def release(self) -> None:
        """Remove the file and release the lock. Calling it again has no effect."""
        if not self.excludes_others:
            remove_file(self._path)
        descriptor, self._descriptor = self._descriptor, None
        # A process that was forked from the holder has closed its copy of the descriptor already.
        if descriptor is None or descriptor not in _held_descriptors:
            return
        _held_descriptors.discard(descriptor)
        if sys.platform == "win32":  # an open file cannot be removed there
            os.close(descriptor)
            remove_file(self._path)
        else:  # removed while it is locked, so that it cannot be the file of a later holder
            remove_file(self._path)
            os.close(descriptor)


def take_lock(path: Path, may_create: bool = True) -> FileLock | None:
    """Lock a file, without waiting.

    Args:
        path: The file. Its folder exists.
        may_create: Whether the file is created if it does not exist.

    Returns:
        The lock, which the caller releases; None if another process, or another part of this one,
        holds it.

    Raises:
        OSError: The file cannot be opened or created, or it is not a regular file.
    """
    flags = _OPEN_FLAGS | (os.O_CREAT if may_create else 0)
    for _ in range(_MAX_ATTEMPTS):
        if _is_special(path):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        descriptor = os.open(path, flags, 0o600)
        try:
            _lock_descriptor(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _NO_LOCKS:
                return FileLock(path, descriptor=None)
            if error.errno in _HELD_BY_ANOTHER:
                return None
            raise
        if _is_same_file(path, descriptor):
            return FileLock(path, descriptor)
        os.close(descriptor)  # another process has removed the file since it was opened
    return None


@contextmanager
def ensure_folder(folder: Path) -> Iterator[None]:
    """Create a folder and its parents, and at the end remove those that are still empty.

    Args:
        folder: The folder. If it exists, it is not removed.

    Yields:
        Nothing.
    """
    new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        try:
            _remove_empty(new_folders)
        finally:  # a signal may have interrupted the removal
            _remove_empty(new_folders)


@contextmanager
def hold_lock(path: Path, resource: str, remedy: str, max_wait_s: float = 0.0) -> Iterator[None]:
    """Hold a lock for the duration of a `with` block.

    Args:
        path: The file of the lock. It is removed at the end, like folders that had to be created
            for it and are still empty then.
        resource: What the lock protects, for the error message, such as "the store logits/".
        remedy: What the user can do, other than waiting.
        max_wait_s: How long to wait for another process that holds the lock, in seconds.

    Yields:
        Nothing.

    Raises:
        RequestError: Another process holds the lock, even after `max_wait_s`.
        OSError: The file cannot be created.
    """
    with ensure_folder(path.parent):
        lock = _wait_for_lock(path, max_wait_s)
        if lock is None:
            raise RequestError(
                f"another process is using {resource}", f"wait until it ends, or {remedy}"
            )
        try:
            yield
        finally:
            lock.release()


def remove_file(path: Path) -> None:
    """Remove a file; do nothing if that is not possible.

    Args:
        path: The file.
    """
    with suppress(OSError):
        path.unlink()


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove the folders that are empty."""
    for folder in folders:
        with suppress(OSError):  # raised if the folder is not empty, or does not exist
            folder.rmdir()


def _wait_for_lock(path: Path, max_wait_s: float) -> FileLock | None:
    """Take a lock as soon as it is free; return None if it is not free after `max_wait_s`."""
    deadline_s = time.monotonic() + max_wait_s
    lock = take_lock(path)
    while lock is None and time.monotonic() < deadline_s:
        time.sleep(_POLL_INTERVAL_S)
        lock = take_lock(path)
    return lock


def _lock_descriptor(descriptor: int) -> None:
    """Lock an open file without waiting; raise OSError if it is locked already."""
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_special(path: Path) -> bool:
    """Return whether a path exists and is not a regular file."""
    try:
        return not stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:  # another process may remove the file at any time
        return False


def _is_same_file(path: Path, descriptor: int) -> bool:
    """Return whether an open file still has this path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _close_inherited_locks() -> None:
    """Close the locks of the parent in a process that was forked from it.

    Otherwise a worker that outlives its killed parent would keep the parent's locks.
    """
    for descriptor in _held_descriptors:
        with suppress(OSError):
            os.close(descriptor)
    _held_descriptors.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited_locks)
