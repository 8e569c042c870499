"""Reads the records of an epoch from a file, a part at a time.

The file is read and not mapped into memory, because a process that reads a part of a map beyond the
end of a file that has become shorter is ended by the signal SIGBUS.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.distill.logits.records import Records
from tinyvit.errors import RequestError
from tinyvit.files.regular_files import open_regular_file

BLOCK_BYTES = 2**22
"""Largest size of a block of records, in bytes. A record in the paper's format can have 128 KiB."""


def divide_into_blocks(count: int, record_bytes: int) -> Iterator[slice]:
    """Divide records into blocks that take little memory.

    Args:
        count: Number of records.
        record_bytes: Size of a record in bytes.

    Yields:
        The range of the positions of each block, in order. A block has at most `BLOCK_BYTES` bytes,
        or one record.
    """
    records_per_block = max(1, BLOCK_BYTES // record_bytes)
    for start in range(0, count, records_per_block):
        yield slice(start, min(start + records_per_block, count))


class RecordFile:
    """The records in a file of fixed size, which are read when they are indexed.

    Processes may share it, also after a fork, because no position in the file is kept.
    """

    def __init__(self, path: Path, dtype: np.dtype[np.void], count: int) -> None:
        """Open the file.

        Args:
            path: The file.
            dtype: The numpy dtype of a record.
            count: Number of records in the file.

        Raises:
            OSError: The file cannot be opened, or is not a regular file.
        """
        self._path, self._dtype, self._count = path, dtype, count
        self._file = open_regular_file(path)

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process that gets this object open the file itself."""
        return RecordFile, (self._path, self._dtype, self._count)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: slice) -> Records:
        """Read consecutive records.

        Args:
            rows: The range of their positions, with a step of 1.

        Returns:
            The records, read-only.

        Raises:
            RequestError: The file has become shorter since it was opened.
        """
        start, stop, _ = rows.indices(self._count)
        return self.read_range(start, max(stop, start))

    def read_range(self, start: int, stop: int) -> Records:
        """Read the records from the position `start` up to the one before `stop`."""
        record_bytes = self._dtype.itemsize
        size_bytes = (stop - start) * record_bytes
        content = _read_at(self._file.fileno(), size_bytes, start * record_bytes)
        if len(content) != size_bytes:
            raise RequestError(
                f"{self._path} has become shorter while it was read",
                "do not change a store that is in use; delete this file and run the same"
                " save-logits command again",
            )
        return np.frombuffer(content, self._dtype)

    def read_field(self, name: str) -> npt.NDArray[Any]:
        """Read one field of all records.

        Args:
            name: Name of the field, such as "seed".

        Returns:
            The field, with the number of records as the size of the first dimension.
        """
        fields = [records[name].copy() for _, records in self.read_blocks()]
        return np.concatenate(fields or [np.zeros(0, self._dtype)[name]])

    def read_blocks(self) -> Iterator[tuple[int, Records]]:
        """Read all records, one block after another.

        Yields:
            The position of the first record of a block, and the records of the block.

        Raises:
            RequestError: The file has become shorter since it was opened.
        """
        for block in divide_into_blocks(self._count, self._dtype.itemsize):
            yield block.start, self[block]


def write_at(descriptor: int, content: bytes, position: int) -> None:
    """Write bytes at a position of an open file.

    Args:
        descriptor: Descriptor of the file, which only one thread writes to.
        content: The bytes.
        position: Position of the first byte in the file.

    Raises:
        OSError: The file cannot be written, for example on a full disk.
    """
    if not hasattr(os, "pwrite"):  # Windows
        os.lseek(descriptor, position, os.SEEK_SET)
    remaining = memoryview(content)
    # One call may write less than requested: at most 2 GiB, or less if the disk is full.
    while remaining:
        if hasattr(os, "pwrite"):
            written_bytes = os.pwrite(descriptor, remaining, position)
        else:
            written_bytes = os.write(descriptor, remaining)
        remaining, position = remaining[written_bytes:], position + written_bytes


def _read_at(descriptor: int, size_bytes: int, position: int) -> bytes:
    """Read bytes at a position of a file; fewer at its end. One call reads at most 2 GiB."""
    if not hasattr(os, "pread"):  # Windows, where processes do not share an open file
        os.lseek(descriptor, position, os.SEEK_SET)
    parts, bytes_left = [], size_bytes
    while bytes_left:
        if hasattr(os, "pread"):
            part = os.pread(descriptor, bytes_left, position + size_bytes - bytes_left)
        else:
            part = os.read(descriptor, bytes_left)
        if not part:
            break
        parts.append(part)
        bytes_left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
