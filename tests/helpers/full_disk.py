"""Full disks for tests: a limit on the size of files, and a small file system."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.processes import TIMEOUT_S

_RUN_COMMAND = """
import importlib, sys
if int(sys.argv[1]):
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(importlib.import_module(sys.argv[2]).main(sys.argv[3:]))
"""


def run_command(
    module: str, *arguments: object, max_file_bytes: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a command of the package in a process of its own.

    Args:
        module: The module with the function `main`.
        arguments: The arguments of the command.
        max_file_bytes: Largest file that the process may write; 0 for any size. A file that would
            grow further gives the same kind of error as a full disk.
    """
    if max_file_bytes:
        pytest.importorskip("resource", reason="limits the size of files")
    return subprocess.run(
        [sys.executable, "-c", _RUN_COMMAND, str(max_file_bytes), module, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def require_one_error(process: subprocess.CompletedProcess[str], text: str) -> None:
    """Check that a command failed with one line that begins with "error: " and contains a text."""
    lines = process.stderr.splitlines()
    assert process.returncode == 1, process.stderr
    assert [line.startswith("error: ") for line in lines].count(True) == 1, process.stderr
    assert lines[-1].startswith("error: ")
    assert text in lines[-1]
    assert "Traceback" not in process.stderr
    assert "Exception" not in process.stderr


@contextmanager
def mount_small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """Mount a file system of a few bytes on a new folder; skip the test if that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    try:
        is_mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        is_mounted = False
    if not is_mounted:
        pytest.skip("needs the right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_disk(folder: Path, free_bytes: int = 0) -> Path:
    """Write a file that leaves only some bytes free on the file system of a folder.

    Returns:
        The file. Removing it frees the space again.
    """
    statistics = os.statvfs(folder)
    path = folder / "filler"
    path.write_bytes(bytes(statistics.f_bavail * statistics.f_frsize - free_bytes))
    return path
