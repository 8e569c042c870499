"""Files that are not regular files, and links, for loaders of every kind of file."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

from tests.hostile.hostile_files import HostileFile


def yield_special_files(name: str) -> Iterator[HostileFile]:
    """Yield special files, folders and links with a name.

    Args:
        name: Name of the file, with the suffix that the loader expects.
    """

    def write_pipe(folder: Path) -> Path:
        os.mkfifo(folder / name)
        return folder / name

    def write_socket(folder: Path) -> Path:
        place = os.open(folder, os.O_RDONLY)
        try:  # the path of a socket may have only 107 characters
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(f"/proc/self/fd/{place}/{name}")
        finally:
            os.close(place)
        return folder / name

    def write_folder(folder: Path) -> Path:
        (folder / name).mkdir()
        return folder / name

    yield HostileFile("a pipe without a writer", write_pipe)
    yield HostileFile("a socket", write_socket)
    yield HostileFile("an empty folder", write_folder)
    targets = ("/dev/zero", "/dev/full", "/dev/tty", "/proc/kmsg", "/proc/self/mem", "/dev/null")
    for target in (*targets, "/proc/self/environ", "/", "nothing", name, "x" * 300):
        yield HostileFile(f"a link to {target[:30]}", _make_link_writer(name, target))


def _make_link_writer(name: str, target: str):  # type: ignore[no-untyped-def]
    def write(folder: Path) -> Path:
        (folder / name).symlink_to(target)
        return folder / name

    return write
