"""Reading of ILSVRC2012_devkit_t12.tar.gz, ImageNet's development kit.

Two of its files are read: the class number of each validation image, and a table in MATLAB's format
with the WordNet id of each class number.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from importlib.util import find_spec
from pathlib import Path

from tinyvit.data.tar_members import TAR_ERRORS, iterate_members
from tinyvit.errors import MissingDependencyError
from tinyvit.files.regular_files import open_regular_file, require_size
from tinyvit.processes.limited_function import ProcessLimits, call_in_process

MAX_UNPACKED_BYTES = 64 * 2**20
"""A development kit that unpacks to more is refused. ImageNet's has 5 MB."""

MAX_PACKED_BYTES = 16 * 2**20
"""Largest size of the compressed file. ImageNet's has 2.5 MB. Without this limit, a file could
consist of very many empty parts of 20 bytes, each of which takes a step in Python."""

MAX_NUMBERS_BYTES = 4 * 2**20
"""Largest size of the list of class numbers. ImageNet's has 0.2 MB."""

_NUMBERS_FILE = "ILSVRC2012_validation_ground_truth.txt"
_TABLE_FILE = "meta.mat"

_GZIP_START = b"\x1f\x8b"

_MAX_SYNSETS = 100_000
"""Largest number of rows of the table. ImageNet's has 1,860."""

_TABLE_LIMITS = ProcessLimits(memory_bytes=2 * 2**30, seconds=60)
"""Limits on the process that reads the table. scipy needs 0.4 GiB for ImageNet's, most of it for
its own code."""


def read_devkit(path: Path) -> list[str]:
    """Read the WordNet id of each validation image.

    Args:
        path: The .tar.gz file as downloaded, or the .tar file that a browser has unpacked.

    Returns:
        The WordNet ids, in the order of the names of the images.

    Raises:
        MissingDependencyError: scipy is not installed.
        OSError: The file cannot be read, or is a pipe or a device.
        ValueError: The file is damaged, too large, or has another content. The message is a clause,
            in which "it" is the file.
    """
    if find_spec("scipy") is None:
        raise MissingDependencyError.for_package("scipy", extra="bench")
    content = _unpack(path)
    number_list = _read_member(content, _NUMBERS_FILE)
    if len(number_list) > MAX_NUMBERS_BYTES:
        raise ValueError(f"{_NUMBERS_FILE} is larger than {MAX_NUMBERS_BYTES >> 20} MiB")
    numbers = number_list.decode("ascii").split()
    table = call_in_process(read_synset_table, _read_member(content, _TABLE_FILE), _TABLE_LIMITS)
    wnids = json.loads(table)
    missing = [number for number in numbers if number not in wnids]
    if missing:
        raise ValueError(f"{_TABLE_FILE} has no class number {missing[0][:20]}")
    return [wnids[number] for number in numbers]


def read_synset_table(content: bytes) -> bytes:
    """Read the table of class numbers and WordNet ids with scipy.

    scipy crashes for some damaged files, so this function is called in another process.

    Args:
        content: The file meta.mat, in MATLAB's format.

    Returns:
        A JSON object that maps class numbers to WordNet ids.
    """
    from scipy.io import loadmat

    synsets = loadmat(io.BytesIO(content), squeeze_me=True, variable_names=["synsets"])["synsets"]
    if len(synsets) > _MAX_SYNSETS:
        raise ValueError(f"{_TABLE_FILE} has {len(synsets)} classes, more than {_MAX_SYNSETS}")
    wnids = {str(int(row["ILSVRC2012_ID"])): str(row["WNID"])[:20] for row in synsets}
    return json.dumps(wnids).encode("ascii")


def _unpack(path: Path) -> bytes:
    """Return the tar file in a .tar.gz file; a file that is not compressed is returned as it is."""
    with open_regular_file(path) as file:
        start = file.read(len(_GZIP_START))
        file.seek(0)
        is_packed = start == _GZIP_START
        if is_packed:
            require_size(os.fstat(file.fileno()).st_size, MAX_PACKED_BYTES)
        try:
            unpacked = gzip.GzipFile(fileobj=file) if is_packed else file
            content = unpacked.read(MAX_UNPACKED_BYTES + 1)
        except (EOFError, zlib.error) as error:
            raise ValueError(f"it is damaged ({error})") from error
    if len(content) > MAX_UNPACKED_BYTES:
        raise ValueError(f"it unpacks to more than {MAX_UNPACKED_BYTES >> 20} MiB")
    return content


def _read_member(content: bytes, name: str) -> bytes:
    """Return the first member of a tar file with this file name, in any folder."""
    try:
        for member in iterate_members(io.BytesIO(content)):
            if member.isreg() and member.sparse is None and Path(member.name).name == name:
                return content[member.offset_data : member.offset_data + member.size]
    except TAR_ERRORS as error:
        raise ValueError(f"it is damaged ({error})") from error
    raise ValueError(f"it has no {name}")
