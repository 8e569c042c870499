"""Reading of files of `torch.save` without executing anything that they contain.

Such a file is a pickle and the contents of storages: in a zip archive since torch 1.6, or one after
the other in files of older versions. `read_torch_file` reads the pickle; the tensors stay in the
file until they are needed.
"""

from __future__ import annotations

import io
import lzma
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

from tinyvit.errors import CheckpointError
from tinyvit.files.bounded_zip import BoundedZipFile, ZipLimitError
from tinyvit.files.limited_reader import LimitedReader, ReadLimitError
from tinyvit.files.regular_files import open_regular_file
from tinyvit.nn.checkpoints.pickles.machine import read_pickle
from tinyvit.nn.checkpoints.pickles.names import DangerousNameError
from tinyvit.nn.checkpoints.pickles.records import Pickle, PickleRecordError
from tinyvit.nn.checkpoints.tensor_files.foreign_files import explain_pickle, explain_zip
from tinyvit.nn.checkpoints.tensor_files.storage_limit import limit_reading
from tinyvit.nn.checkpoints.tensor_files.stored_tensors import ReadStorage, find_item_size
from tinyvit.nn.checkpoints.tensor_files.tensor_collection import TensorCollector

MAX_BYTES = 4 * 2**30
"""Larger files are refused. The largest training checkpoint of any variant (21M, with the state of
the optimizer and averaged weights) has 0.4 GB."""

SAVE_STATE_DICT = "save the state dict alone: torch.save({'model': model.state_dict()}, path)"
"""The remedy for files that contain more than tensors, or tensors in an unsupported form."""

MAX_STORAGE_BYTES = 2**30
"""Largest size of one storage that is read. The largest variant has 0.08 GB in all."""

_MAX_READ_BYTES = 8 * 2**30
"""Largest size of all storages that are read from one file. A storage is read again if another one
was read in between."""

_MAX_PICKLE_BYTES = 512 * 2**20
"""Larger pickles (without the contents of the tensors) are refused."""

_MAX_HEADER_OPERATIONS = 1000
"""Largest number of operations of a pickle before the content in old files. torch writes 30."""

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
"""The first object in a file of `torch.save` that is not a zip archive."""

_DAMAGED_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    OSError,
    EOFError,
    KeyError,
    ValueError,
    TypeError,
    OverflowError,
    RuntimeError,  # an encrypted archive
    NotImplementedError,  # an unknown kind of compression
    struct.error,
)
"""Errors that reading a damaged archive or file raises."""


@dataclass(frozen=True)
class FileContent:
    """The content of a checkpoint file, whose tensors are read when they are needed.

    Attributes:
        root: For a file of `torch.save`, the tree of records (see
            `tinyvit.nn.checkpoints.pickles.records`). For other files, a dict of `StoredTensor` by
            name.
        read_storage: Returns the bytes of the storage with this key; raises CheckpointError if they
            are damaged or missing.
    """

    root: Any
    read_storage: ReadStorage

    @cached_property
    def collector(self) -> TensorCollector:
        """Return the collector of the tensors of the file, which is created once."""
        return TensorCollector(self.read_storage)


def read_torch_file(path: Path, is_zip: bool) -> FileContent:
    """Read a file of `torch.save`.

    Args:
        path: The file.
        is_zip: Whether it is a zip archive, which its first bytes tell.

    Returns:
        The content.

    Raises:
        CheckpointError: The file is damaged, too large, no file of `torch.save`, or an attack.
    """
    return _read_archive(path) if is_zip else _read_old_format(path)


def make_damaged_error(path: Path, reason: str = "") -> CheckpointError:
    """Return the error for a damaged file of torch.

    Args:
        path: The file.
        reason: What is wrong in the file; "" if this is not known.
    """
    detail = f" ({' '.join(reason.split())[:200]})" if reason else ""
    return CheckpointError(
        f"{path} is a damaged or truncated torch file{detail}", "download it again"
    )


@contextmanager
def refuse_damaged_records(path: Path) -> Iterator[None]:
    """Turn the errors that damaged records cause in a `with` block into CheckpointError.

    Args:
        path: The file that contains the records.
    """
    try:
        yield
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise make_damaged_error(path) from error


def _make_limit_error(path: Path, reason: object) -> CheckpointError:
    """Return the error for a file that exceeds a limit; the reason is a clause."""
    return CheckpointError(f"{path} is refused: {reason}", "do not trust this file")


def _read_archive(path: Path) -> FileContent:
    """Read a zip archive of torch."""
    try:
        # It stays open as long as the result is used. Opening it for each tensor takes long.
        archive = BoundedZipFile(path)
        entries = {entry.filename: entry for entry in archive.infolist()}
        unpacked_bytes = sum(entry.file_size for entry in archive.infolist())
    except (ZipLimitError, ReadLimitError) as error:
        raise _make_limit_error(path, error) from error
    except _DAMAGED_ERRORS as error:
        raise make_damaged_error(path) from error
    if unpacked_bytes > MAX_BYTES:
        raise CheckpointError(
            f"{path} unpacks to {unpacked_bytes / 2**30:.0f} GiB, more than any TinyViT checkpoint",
            "do not trust this file",
        )
    foreign = explain_zip(path, set(entries))
    if foreign is not None:
        raise foreign
    pickle_name = next(name for name in entries if name.endswith("data.pkl"))
    root = pickle_name.removesuffix("data.pkl")
    if entries[pickle_name].file_size > _MAX_PICKLE_BYTES:
        raise CheckpointError(f"the pickle in {path} is too large", SAVE_STATE_DICT)

    def read_entry(name: str) -> bytes:
        try:
            entry = archive.getinfo(name)
            return _read_entry(archive, entry, path)
        except ZipLimitError as error:
            raise _make_limit_error(path, error) from error
        except _DAMAGED_ERRORS as error:
            raise make_damaged_error(path) from error

    if f"{root}byteorder" in entries and read_entry(f"{root}byteorder").strip() == b"big":
        raise CheckpointError(f"{path} has big-endian numbers", SAVE_STATE_DICT)
    content = _read_pickle(io.BytesIO(read_entry(pickle_name)), path)
    return FileContent(
        content.root, _limit_reading(lambda key: read_entry(f"{root}data/{key}"), path)
    )


def _read_entry(archive: BoundedZipFile, entry: zipfile.ZipInfo, path: Path) -> bytes:
    """Read an entry, which may have no checksum.

    torch.serialization.set_crc32_options(False) writes entries without checksum.

    Raises:
        ValueError: The archive is damaged, or the entry is larger than `MAX_STORAGE_BYTES`.
    """
    is_unchecked = entry.CRC == 0 and entry.compress_type == zipfile.ZIP_STORED
    if not is_unchecked or entry.file_size > MAX_STORAGE_BYTES:
        return archive.read_entry(entry, MAX_STORAGE_BYTES)
    with open_regular_file(path) as file:
        # The content follows 30 bytes, of which the last four are the lengths of the entry's name
        # and of additional fields.
        file.seek(entry.header_offset + 26)
        name_bytes, extra_bytes = struct.unpack("<HH", file.read(4))
        file.seek(name_bytes + extra_bytes, io.SEEK_CUR)
        content = file.read(entry.file_size)
    if len(content) != entry.file_size:
        raise ValueError("an entry is not complete")
    return content


def _read_pickle(file: BinaryIO, path: Path, is_header: bool = False) -> Pickle:
    """Read one pickle of a file of torch; a header has few operations."""
    try:
        return read_pickle(file, _MAX_HEADER_OPERATIONS) if is_header else read_pickle(file)
    except DangerousNameError as error:
        raise CheckpointError(
            f"{path} contains Python objects other than tensors (`{error.name}`), and loading them"
            " could run code",
            SAVE_STATE_DICT,
        ) from error
    except PickleRecordError as error:
        raise make_damaged_error(path) from error


def _read_old_format(path: Path) -> FileContent:
    """Read a file of a version of torch before 1.6.

    It consists of five pickles (a magic number, the version of the format, facts about the machine,
    the content, and the keys of the storages), followed by the storages in the order of the keys.
    A storage is the number of its elements (8 bytes) and the elements.
    """
    with LimitedReader(open_regular_file(path).detach()) as file:
        file.set_limit(_MAX_PICKLE_BYTES)
        first = _read_pickle(file, path, is_header=True)
        if first.root != _MAGIC_NUMBER:
            raise explain_pickle(path)
        _read_pickle(file, path, is_header=True)
        machine = _read_pickle(file, path, is_header=True).root
        content = _read_pickle(file, path)
        keys = _read_pickle(file, path).root
        file.set_limit(sys.maxsize)
        if isinstance(machine, dict) and machine.get("little_endian") is False:
            raise CheckpointError(f"{path} has big-endian numbers", SAVE_STATE_DICT)
        item_sizes = {storage.key: find_item_size(storage) for storage in content.storages}
        try:
            positions = _find_positions(file, keys, item_sizes)
        except _DAMAGED_ERRORS as error:
            raise make_damaged_error(path) from error
    return FileContent(content.root, _make_position_reader(path, positions))


def _limit_reading(read_storage: ReadStorage, path: Path) -> ReadStorage:
    """Return the function with a limit for all storages together."""
    return limit_reading(read_storage, _MAX_READ_BYTES, partial(_make_limit_error, path))


def _make_position_reader(path: Path, positions: dict[str, tuple[int, int]]) -> ReadStorage:
    """Return a function that reads storages whose position and size in bytes are known."""

    def read_storage(key: str) -> bytes:
        if key not in positions:
            raise make_damaged_error(path)
        start, size_bytes = positions[key]
        if size_bytes > MAX_STORAGE_BYTES:
            reason = f"a storage has {size_bytes >> 20} MiB, more than {MAX_STORAGE_BYTES >> 20}"
            raise _make_limit_error(path, reason)
        with open_regular_file(path) as file:
            file.seek(start)
            content = file.read(size_bytes)
        if len(content) != size_bytes:
            raise make_damaged_error(path)
        return content

    return _limit_reading(read_storage, path)


def _find_positions(
    file: BinaryIO, keys: Any, item_sizes: dict[str, int]
) -> dict[str, tuple[int, int]]:
    """Find the position and size in bytes of each storage, from the current position of the file.

    Raises:
        ValueError: The file is damaged.
    """
    end = file.tell()
    file_bytes = file.seek(0, io.SEEK_END)
    positions = {}
    for key in keys:
        if not isinstance(key, (str, int)):
            raise ValueError("the key of a storage is not a text")
        key = str(key)
        file.seek(end)
        (count,) = struct.unpack("<q", file.read(8))
        start, size_bytes = end + 8, count * item_sizes[key]
        end = start + size_bytes
        if count < 0 or end > file_bytes:
            raise ValueError("a storage is not complete")
        positions[key] = (start, size_bytes)
    return positions
