"""Atomic writing of files, hashes of files, and explanations of operating system errors."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tinyvit.errors import RequestError

_FOLDER_ARTIFACT_MARKER = "Manifest.json"
"""A file that every folder artifact (.mlpackage of Core ML) contains. Folders without it are never
replaced."""

_HASH_BLOCK_BYTES = 1 << 20
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REMEDIES = {
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "check its permissions and those of its folder, or give another path",
    ),
    **dict.fromkeys(
        (errno.EEXIST, errno.ENOTDIR), "a folder of this path is a file: give another path"
    ),
    errno.ENAMETOOLONG: "give a shorter name",
}


@contextmanager
def staging_folder(path: Path) -> Iterator[Path]:
    """Provide a temporary folder beside a file that is about to be written.

    The folder is removed at the end in every case, including Ctrl-C and a full disk. Parent folders
    of `path` that had to be created are removed too if they are still empty.

    Args:
        path: The file that will be written. Its parent folders are created.

    Yields:
        A new empty folder in the same folder as `path`, so that files can be renamed into place.
    """
    created = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name is chosen before the folder is created: a signal may arrive as soon as the folder
    # exists, and the cleanup must know its name by then.
    folder = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in created:
            with suppress(OSError):  # another process may have put a file there
                parent.rmdir()


def publish_files(staged: list[Path], folder: Path) -> list[Path]:
    """Move finished files into a folder by renaming, so that no reader sees half of a file.

    Args:
        staged: Files, or folders that are artifacts, on the same file system as `folder`. They are
            moved in order, so the file that readers open must be the last.
        folder: Where they are moved. Files of the same name are replaced.

    Returns:
        The new paths, in the same order.
    """
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
        data: The content. A string is encoded as UTF-8, and surrogate escapes as their bytes.

    Returns:
        `path`.
    """
    with staging_folder(path) as folder:
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        (folder / path.name).write_bytes(content)
        publish_files([folder / path.name], path.parent)
    return path


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Check that an output path may be written.

    Args:
        path: The output of a command.
        overwrite: Whether an existing file may be replaced.

    Raises:
        RequestError: The path exists and may not be replaced, or is a folder but not an artifact.
    """
    if path.exists() and not overwrite:
        raise RequestError(f"{path} exists", "give another -o, or --overwrite to replace it")
    if path.is_dir() and not (path / _FOLDER_ARTIFACT_MARKER).is_file():
        raise RequestError(f"{path} is a folder", "give -o the name of a file")


def size_bytes(path: Path) -> int:
    """Measure the size of a file, or of all files in a folder.

    Args:
        path: A file or a folder.

    Returns:
        The size in bytes.
    """
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def explain_os_error(error: OSError) -> tuple[str, str]:
    """Explain an error of the operating system.

    Args:
        error: The error that reading or writing a file raised.

    Returns:
        The reason and the remedy, in words.
    """
    if error.errno in _DISK_FULL:
        return "the disk is full", "free space there, or give another path"
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
    """Compute the SHA-256 of the names and sizes of files, which is fast for large datasets.

    Args:
        files: A name and the path of each file. The order matters.

    Returns:
        The hex digest. It does not depend on the content of the files.
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
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
