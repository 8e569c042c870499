"""Writing and reading of files, hashes of files, and explanations of operating system errors."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tinyvit.errors import RequestError
from tinyvit.files.regular_files import SpecialFileError, open_regular_file, read_bounded
from tinyvit.files.staging import staging_folder
from tinyvit.processes.stop_signals import raise_if_stopped

_FOLDER_ARTIFACT_MARKER = "Manifest.json"
"""Name of a file in every .mlpackage of Core ML, the only kind of artifact (exported model) that is
a folder. A folder without this file is never replaced."""

_HASH_BLOCK_BYTES = 1 << 20
"""Number of bytes that are read and hashed at a time."""

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""Byte order marks, with which files in UTF-16 begin."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers that mean that a file cannot grow further."""

_PERMISSION_REMEDY = "check its permissions and those of its folder, or give another path"
_FILE_IN_PATH_REMEDY = "a part of this path is a file, not a folder: give another path"
_REMEDIES = {
    errno.EACCES: _PERMISSION_REMEDY,
    errno.EPERM: _PERMISSION_REMEDY,
    errno.EROFS: _PERMISSION_REMEDY,
    errno.EEXIST: _FILE_IN_PATH_REMEDY,
    errno.ENOTDIR: _FILE_IN_PATH_REMEDY,
    errno.ENAMETOOLONG: "give a shorter name",
}
"""What the user can do about an error, by its number."""


def publish_files(staged: list[Path], folder: Path) -> list[Path]:
    """Move finished files into a folder by renaming, so that readers never see incomplete files.

    Args:
        staged: Files, or artifacts that are folders, on the same file system as `folder`. They are
            moved in this order. A file that refers to the others must be the last.
        folder: Destination folder. Files in it with the same names are replaced.

    Returns:
        The new paths, in the same order.

    Raises:
        KeyboardInterrupt: The command was stopped, but has not ended yet; see `stop_signals`.
    """
    raise_if_stopped()
    published = []
    for file in staged:
        destination = folder / file.name
        if file.is_dir() and destination.exists():
            # A folder cannot be renamed over another folder, so the old one moves out first.
            os.replace(destination, file.with_name(f"{file.name}.old"))
        os.replace(file, destination)
        published.append(destination)
    return published


def write_atomically(path: Path, data: str | bytes) -> Path:
    """Write a file completely or not at all.

    Args:
        path: The file to write or replace. Its parent folders are created.
        data: The content. A string is encoded as UTF-8. Surrogate escapes, with which Python
            represents file names that are not UTF-8, become the original bytes.

    Returns:
        `path`.
    """
    with staging_folder(path) as folder:
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        (folder / path.name).write_bytes(content)
        publish_files([folder / path.name], path.parent)
    return path


def read_text(path: Path, max_bytes: int) -> str:
    """Read a text file that a user wrote with any editor.

    Args:
        path: The file, in UTF-8 with or without a byte order mark.
        max_bytes: Largest accepted size of the file, in bytes.

    Returns:
        The text without the byte order mark. The line ends of all systems are replaced by line
        feeds.

    Raises:
        OSError: The file cannot be read, or is a pipe or a device.
        ValueError: The file is larger or is not in UTF-8. The message is a clause, in which "it" is
            the file.
    """
    data = read_bounded(path, max_bytes)
    if data.startswith(_UTF16_MARKS):
        raise ValueError("it is in UTF-16, not in utf-8")
    text = data.decode("utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def expand_home(path: str | os.PathLike[str]) -> Path:
    """Replace "~" at the beginning of a path by the user's home folder, as a shell does.

    Args:
        path: A path of any kind. One that exists as it is written, such as an image in a folder
            that is called "~", is not changed.

    Returns:
        The path.
    """
    text = os.fspath(path)
    is_literal = not text.startswith("~") or os.path.lexists(text)
    return Path(text if is_literal else os.path.expanduser(text))


def find_cache_folder() -> Path:
    """Return the folder for results whose computation takes minutes, and for exported models.

    The folder is $TINYVIT_CACHE, or "tinyvit-edge" in the user's cache folder.
    """
    cache = os.environ.get("TINYVIT_CACHE")
    user_cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache or f"{user_cache}/tinyvit-edge").expanduser()


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Check that an output path may be written.

    Args:
        path: Output path of a command.
        overwrite: Whether an existing file may be replaced.

    Raises:
        RequestError: The path exists and `overwrite` is false, or it is a folder that is not an
            artifact, or a device, pipe or socket.
    """
    if path.exists() and not overwrite:
        raise RequestError(f"{path} exists", "give another -o, or --overwrite to replace it")
    if path.is_dir() and not (path / _FOLDER_ARTIFACT_MARKER).is_file():
        raise RequestError(f"{path} is a folder", "give -o the name of a file")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise RequestError(
            f"{path} is a device, a pipe or a socket, which would be replaced by the file",
            "give -o the name of a file",
        )


def size_bytes(path: Path) -> int:
    """Measure the size of a file, or of all files in a folder.

    Args:
        path: A file or a folder.

    Returns:
        The size in bytes.
    """
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


@contextmanager
def name_file_in_errors(path: Path) -> Iterator[None]:
    """Add a path to every OSError that names no file, such as one of a function for open files.

    Args:
        path: The file or folder that the operations in the context write.

    Yields:
        Nothing.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def explain_os_error(error: OSError) -> tuple[str, str]:
    """Explain an error of the operating system.

    Args:
        error: The error that reading or writing a file raised.

    Returns:
        Two texts for a TinyViTError: the reason, such as "the disk is full", and the remedy.
    """
    if error.errno in _DISK_FULL:
        return "the disk is full", "free space there, or give another path"
    if isinstance(error, SpecialFileError):
        return error.strerror or "", "copy its content to a regular file, and give that file"
    return error.strerror or str(error), _REMEDIES.get(error.errno or 0, "check the path")


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file.

    Args:
        path: The file.

    Returns:
        The hex digest of its bytes.
    """
    digest = hashlib.sha256()
    update_hash(path, digest)
    return digest.hexdigest()


def listing_sha256(files: Iterable[tuple[str, Path]]) -> str:
    """Compute the SHA-256 of the names and sizes of files, without reading the files.

    Args:
        files: A name and the path of each file. The digest depends on the order of the files.

    Returns:
        The hex digest.
    """
    digest = hashlib.sha256()
    for name, path in files:
        digest.update(f"{name}\0{path.stat().st_size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def update_hash(path: Path, digest: hashlib._Hash) -> None:
    """Add the bytes of a file to a hash.

    Args:
        path: The file.
        digest: The hash object to update.
    """
    with open_regular_file(path) as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
