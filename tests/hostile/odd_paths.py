"""Paths that are no regular files with data: pipes, devices, links, folders, sparse files."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.hostile.hostile_files import GIB, HostileFile


def yield_odd_paths(name: str, head: bytes) -> Iterator[HostileFile]:
    """Yield paths with a name, which may begin with the first bytes of a format.

    Args:
        name: Name of the file, with its suffix.
        head: The first bytes of a valid file.
    """

    def make_sparse(path: Path, size_bytes: int) -> None:
        with path.open("wb") as file:
            file.write(head)
            file.truncate(size_bytes)

    def make_socket(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            folder = Path.cwd()
            os.chdir(path.parent)
            try:
                server.bind(path.name)
            finally:
                os.chdir(folder)

    makers: tuple[tuple[str, Callable[[Path], object]], ...] = (
        ("a named pipe without a writer", os.mkfifo),
        ("a link to /dev/zero", lambda path: path.symlink_to("/dev/zero")),
        ("a link to /dev/random", lambda path: path.symlink_to("/dev/random")),
        ("a link to itself", lambda path: path.symlink_to(path.name)),
        ("a link to nothing", lambda path: path.symlink_to("nothing")),
        ("a link to /proc/self/mem", lambda path: path.symlink_to("/proc/self/mem")),
        ("a link to /proc/self/environ", lambda path: path.symlink_to("/proc/self/environ")),
        ("a folder", lambda path: path.mkdir()),
        ("an empty file", lambda path: path.write_bytes(b"")),
        ("only the first bytes", lambda path: path.write_bytes(head)),
        ("a sparse file of 2 GiB", lambda path: make_sparse(path, 2 * GIB - 1)),
        ("a sparse file of 3 GiB", lambda path: make_sparse(path, 3 * GIB)),
        ("a sparse file of 2^42 bytes", lambda path: make_sparse(path, 2**42)),
        ("a socket", make_socket),
    )
    for description, make in makers:
        yield HostileFile(description, _make_writer(name, make))


def _make_writer(name: str, make: Callable[[Path], object]) -> Callable[[Path], Path]:
    """Return a function that makes a path in a folder."""

    def write(folder: Path) -> Path:
        path = folder / name
        make(path)
        return path

    return write
