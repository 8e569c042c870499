"""Opens files whose paths come from a user or from another file, and never waits forever.

Reading a named pipe can wait forever, and reading a device such as /dev/zero never ends. Every file
whose path comes from outside is therefore opened by `open_regular_file`, or checked by
`check_regular_file` before a library opens it.
"""

from __future__ import annotations

import errno
import io
import os
import stat

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
"""Type of a special file, as its mode states it -> words for messages."""

_KERNEL_FOLDER = "/proc/"
"""The files in this folder of Linux state a size of 0, but reading them can wait, as /proc/kmsg
does, or give more than the memory holds."""


class SpecialFileError(OSError):
    """A path leads to a pipe, a device, a socket or a file of the kernel.

    Attributes:
        strerror: What the path leads to, such as "it is a named pipe, not a regular file".
    """


def check_regular_file(path: str | os.PathLike[str]) -> os.stat_result:
    """Check that a path leads to a regular file, without opening it.

    Args:
        path: The path. Symbolic links are followed.

    Returns:
        The status of the file, which contains its size.

    Raises:
        SpecialFileError: The path leads to a special file.
        IsADirectoryError: The path leads to a folder.
        OSError: The path leads to nothing, or cannot be followed.
        ValueError: The path contains a null character.
    """
    status = os.stat(path)
    _require_regular(status, path)
    return status


def open_regular_file(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a regular file for reading.

    Args:
        path: The path. Symbolic links are followed.

    Returns:
        The open binary file.

    Raises:
        SpecialFileError: The path leads to a special file, which is not opened.
        IsADirectoryError: The path leads to a folder.
        OSError: The path leads to nothing, or the file may not be read.
        ValueError: The path contains a null character.
    """
    check_regular_file(path)
    file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115 (the caller closes it)
    _require_still_regular(file, path)
    return file


def open_regular_file_for_update(path: str | os.PathLike[str]) -> io.FileIO:
    """Open a regular file for reading and writing, without a buffer.

    Args:
        path: The path. Symbolic links are followed.

    Returns:
        The open binary file, positioned at its beginning.

    Raises:
        OSError: As for `open_regular_file`, or the file may not be written.
        ValueError: The path contains a null character.
    """
    check_regular_file(path)
    file = io.FileIO(path, "r+", opener=_open_without_waiting)
    _require_still_regular(file, path)
    return file


def read_bounded(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Read a regular file completely if it is not too large.

    Args:
        path: The path. Symbolic links are followed.
        max_bytes: Largest accepted size of the file, in bytes.

    Returns:
        The content.

    Raises:
        OSError: The path does not lead to a regular file, or the file cannot be read.
        ValueError: The file is larger, or the path contains a null character. The message is a
            clause, in which "it" is the file.
    """
    with open_regular_file(path) as file:
        return read_open_file(file, max_bytes)


def read_open_file(file: io.BufferedReader | io.FileIO, max_bytes: int) -> bytes:
    """Read an open file from its position to its end if it is not too large.

    Args:
        file: A regular file that is open for reading.
        max_bytes: Largest accepted size of the file, in bytes.

    Returns:
        The content.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is larger. The message is a clause, in which "it" is the file.
    """
    # A sparse file of any size costs nothing to create, so the size is compared first.
    size_bytes = os.fstat(file.fileno()).st_size
    require_size(size_bytes, max_bytes)
    # `read` reserves memory for all bytes that it is asked for, and the limit may be 2 GiB.
    content = file.read(size_bytes + 1)
    if len(content) > size_bytes:  # the file has grown
        content += file.read(max_bytes + 1 - len(content))
    require_size(len(content), max_bytes)
    return content


def require_size(size_bytes: int, max_bytes: int) -> None:
    """Check a size against a limit.

    Args:
        size_bytes: Size of a file or a text, in bytes.
        max_bytes: Largest accepted size, in bytes.

    Raises:
        ValueError: The size is larger. The message is a clause, in which "it" is the file or text.
    """
    if size_bytes > max_bytes:
        limit = f"{max_bytes >> 20} MiB" if max_bytes >= 2**20 else f"{max_bytes} bytes"
        raise ValueError(f"it is larger than {limit}")


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file. A named pipe is opened too, but without waiting until another process writes.

    Windows has no such pipes, and not the flag that prevents the waiting.
    """
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_still_regular(
    file: io.BufferedReader | io.FileIO, path: str | os.PathLike[str]
) -> None:
    """Close a file and raise OSError if another file has taken the place of the checked one."""
    try:
        _require_regular(os.fstat(file.fileno()), path)
    except OSError:
        file.close()
        raise


def _require_regular(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    """Raise OSError unless a status is that of a regular file."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
        _raise_special(f"it is {kind}, not a regular file", path)
    if status.st_size == 0 and os.path.realpath(path).startswith(_KERNEL_FOLDER):
        _raise_special("it is a file of the kernel, not a regular file", path)


def _raise_special(reason: str, path: str | os.PathLike[str]) -> None:
    raise SpecialFileError(errno.EINVAL, reason, os.fspath(path))
