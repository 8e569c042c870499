"""Writing files so that a reader never sees half of one, and hashing them."""

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

ARTIFACT_FOLDER = "Manifest.json"
"""What a folder that is an artifact (Core ML's .mlpackage) holds; no other folder is ever replaced."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REMEDIES = {
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "check its permissions and its folder's, or give another place",
    ),
    **dict.fromkeys(
        (errno.EEXIST, errno.ENOTDIR), "a folder on the way is a file: give another place"
    ),
    errno.ENAMETOOLONG: "give a shorter name",
}


@contextmanager
def staging_folder(path: Path) -> Iterator[Path]:
    """A new empty folder beside `path`, removed at the end whatever happens, Ctrl-C and a full disk included,
    with the folders made for `path` that are still empty then."""
    new = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    # Named before it is made: a signal may come as soon as it is there, and what removes it must know it then.
    folder = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in new:
            with suppress(OSError):  # not empty, or another export's by now
                parent.rmdir()


def publish_files(staged: list[Path], folder: Path) -> list[Path]:
    """Move finished files, or folders that are artifacts, into `folder` by renaming, the last one last: it is the one that readers open."""
    placed = []
    for file in staged:
        if (
            file.is_dir() and (folder / file.name).exists()
        ):  # a folder cannot be renamed over another
            os.replace(folder / file.name, file.with_name(f"{file.name}.old"))
        os.replace(file, folder / file.name)
        placed.append(folder / file.name)
    return placed


def write_atomically(path: Path, data: str | bytes) -> Path:
    """Write a file by renaming it into place: UTF-8 of a text. Returns `path`."""
    with staging_folder(path) as folder:
        (folder / path.name).write_bytes(
            data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        )
        publish_files([folder / path.name], path.parent)
    return path


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise RequestError where `path` exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise RequestError(f"{path} exists", "give another -o, or --overwrite to replace it")
    if path.is_dir() and not (path / ARTIFACT_FOLDER).is_file():
        raise RequestError(f"{path} is a folder", "give -o the name of a file")


def size_bytes(path: Path) -> int:
    """Of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def explain_os_error(error: OSError) -> tuple[str, str]:
    """(what went wrong, what to do about it) of an error of the system's."""
    if error.errno in _FULL:
        return "the disk is full", "free space there, or give another place"
    return error.strerror or str(error), _REMEDIES.get(error.errno or 0, "check the path")


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    update_hash(path, digest)
    return digest.hexdigest()


def listing_sha256(files: Iterable[tuple[str, Path]]) -> str:
    """Hex digest of what files are called and their sizes in bytes, not of what is in them."""
    digest = hashlib.sha256()
    for name, path in files:
        digest.update(f"{name}\0{path.stat().st_size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def update_hash(path: Path, digest: hashlib._Hash) -> None:
    """Update a hash with a file's bytes."""
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
