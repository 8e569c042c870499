"""Finds the shared libraries that a benchmark program needs on an Android device.

They lie in one folder of this machine. Other files of this folder, such as licenses, are left out.
"""

from __future__ import annotations

import os
import stat
import string
from collections.abc import Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from tinyvit.errors import RequestError
from tinyvit.files.regular_files import open_regular_file

MAX_ENTRIES = 1000
"""Largest number of files and folders beside the libraries and together with them."""
MAX_LIBRARIES = 64
"""Largest number of libraries. Qualcomm's SDK has about 40 for Android."""
MAX_TOTAL_BYTES = 2**30
"""Largest size of all libraries together. Those of Qualcomm's SDK have several hundred MiB."""

_NAME_CHARACTERS = frozenset(string.ascii_letters + string.digits + "._+-")
_ELF_HEADER_BYTES = 20
_MACHINE_OFFSET = 18
"""Where the header of an ELF file has the processor (man 5 elf, e_machine)."""
_AARCH64 = 183
"""Number of 64-bit Arm in it."""


def find_libraries(folder: Path, required: Sequence[str]) -> tuple[Path, ...]:
    """Find the shared libraries of a folder, and check that those that are needed are there.

    Args:
        folder: The folder of --runner-libs.
        required: Names of the libraries that must be there, built for 64-bit Arm.

    Returns:
        The paths of all its files that are named like a library (.so, or .so. and a version), by
        name. Folders in it are not searched.

    Raises:
        RequestError: The folder cannot be listed or has too many files; a library is missing, too
            large, not a regular file, has an odd name, or is built for another processor.
    """
    paths = _list_libraries(folder)
    names = {path.name for path in paths}
    missing = [name for name in required if name not in names]
    if missing:
        raise RequestError(
            f"--runner-libs {folder} does not contain {', '.join(missing)}",
            "copy onnxruntime's provider for QNN and Qualcomm's libraries for Android into this"
            " folder; docs/how-to/snapdragon-npu.md lists them",
        )
    if len(paths) > MAX_LIBRARIES:
        raise RequestError(
            f"--runner-libs {folder} has {len(paths)} libraries, more than {MAX_LIBRARIES}",
            "copy those that the program needs into a folder of their own",
        )
    size_bytes = sum(_read_regular_size(path) for path in paths)
    if size_bytes > MAX_TOTAL_BYTES:
        raise RequestError(
            f"the libraries of --runner-libs {folder} have {size_bytes} bytes, more than"
            f" {MAX_TOTAL_BYTES}",
            "copy those that the program needs into a folder of their own",
        )
    for path in paths:
        if path.name in required:
            _require_arm_library(path)
    return paths


def _list_libraries(folder: Path) -> tuple[Path, ...]:
    """Return the paths of the files that are named like a shared library, by name."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, MAX_ENTRIES + 1)]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RequestError(
            f"--runner-libs {folder} cannot be listed ({reason})",
            "give a folder with the libraries that the program needs",
        ) from error
    if len(names) > MAX_ENTRIES:
        raise RequestError(
            f"--runner-libs {folder} has more than {MAX_ENTRIES} files",
            "copy the libraries that the program needs into a folder of their own",
        )
    libraries = sorted(name for name in names if ".so" in PurePosixPath(name).suffixes)
    for name in libraries:
        if not _NAME_CHARACTERS.issuperset(name):
            raise RequestError(
                f"--runner-libs {folder} has a file with an odd name, {name!r}",
                "remove it: names of libraries have letters, digits, '.', '_', '+' and '-'",
            )
    return tuple(folder / name for name in libraries)


def _read_regular_size(path: Path) -> int:
    """Return the size of a library in bytes; refuse a link, a folder or a special file."""
    try:
        status = path.lstat()
    except OSError as error:
        raise RequestError(
            f"{path} cannot be read ({error.strerror})", "check the file and its permissions"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise RequestError(
            f"{path} is not a regular file",
            "replace it by the library itself (cp -L follows links), or remove it",
        )
    return status.st_size


def _require_arm_library(path: Path) -> None:
    """Refuse a library that is built for another processor than 64-bit Arm."""
    try:
        with open_regular_file(path) as file:
            header = file.read(_ELF_HEADER_BYTES)
    except OSError as error:
        raise RequestError(
            f"{path} cannot be read ({error.strerror})", "check the file and its permissions"
        ) from error
    machine = int.from_bytes(header[_MACHINE_OFFSET:], "little")
    if not header.startswith(b"\x7fELF") or machine != _AARCH64:
        raise RequestError(
            f"{path} is not a library for 64-bit Arm processors",
            "give the libraries for Android: the Python package onnxruntime-qnn has those of"
            " computers",
        )
