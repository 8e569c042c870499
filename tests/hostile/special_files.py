"""Paths that are not regular files with data: pipes, sockets, links, folders and sparse files."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.hostile.hostile_files import GIB, HostileFile, make_file

_LINK_TARGETS = ("/dev/zero", "/dev/null", "/dev/full", "/dev/stdin", "/dev/random", "/dev/tty")
_LINK_TARGETS += ("/proc/kmsg", "/proc/self/mem", "/proc/self/environ", "/sys/kernel/notes")
_LINK_TARGETS += ("/", "missing")
_SPARSE_SIZES_BYTES = (2 * GIB - 1, 3 * GIB, 2**34, 2**40, 2**42)


def yield_special_files(name: str, head: bytes = b"") -> Iterator[HostileFile]:
    """Yield special files, folders, links, and files with nearly no data.

    Args:
        name: Name of the file, with the suffix that the loader expects.
        head: The first bytes of a valid file, with which sparse files begin.
    """
    for kind in ("pipe", "socket", "folder", "loop"):
        yield HostileFile(f"a {kind}", partial(_write_special, name, kind))
    for target in _LINK_TARGETS:
        yield HostileFile(f"a link to {target}", partial(_write_special, name, target))
    for size_bytes in _SPARSE_SIZES_BYTES:
        writer = make_sparse_writer(name, size_bytes, head)
        yield HostileFile(f"a sparse file of {size_bytes} bytes", writer)
    yield make_file(name, "an empty file", b"")
    if head:
        yield make_file(name, "only the first bytes", head)


def make_long_link(name: str) -> HostileFile:
    """Make a link to a path with a longer name than systems allow."""
    return HostileFile("a link to a long name", partial(_write_special, name, "x" * 300))


def _write_special(name: str, kind: str, folder: Path) -> Path:
    make_special(folder / name, kind)
    return folder / name


def make_special(path: Path, kind: str) -> None:
    """Make something at a path that is not a regular file.

    Args:
        path: Where to make it; nothing may be there.
        kind: "pipe", "socket", "folder", "loop" (a link to itself), "nothing" (which makes
            nothing), or the target of a link.
    """
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        _make_socket(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "nothing":
        path.symlink_to(path.name if kind == "loop" else kind)


def _make_socket(path: Path) -> None:
    # The path of a socket is limited to about 100 bytes, so the folder is named by a number.
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{descriptor}/{path.name}")
    finally:
        os.close(descriptor)


def make_special_writer(
    save: Callable[[Path], Path], name: str, kind: str
) -> Callable[[Path], Path]:
    """Make a function that replaces one of several files by something special.

    Args:
        save: Writes the files into a folder, and returns the path to load.
        name: Path of the replaced file, relative to the folder.
        kind: What replaces it: see `make_special`, or "sparse" for a file of 2^40 bytes.
    """

    def write(folder: Path) -> Path:
        path = save(folder)
        (folder / name).unlink()
        if kind == "sparse":
            make_sparse_writer(name, 2**40)(folder)
        else:
            make_special(folder / name, kind)
        return path

    return write


def make_sparse_writer(name: str, size_bytes: int, start: bytes = b"") -> Callable[[Path], Path]:
    """Return a function that writes a file of zeros, after `start`, that takes no space."""

    def write(folder: Path) -> Path:
        with open(folder / name, "wb") as file:
            file.write(start)
            file.truncate(size_bytes)
        return folder / name

    return write
