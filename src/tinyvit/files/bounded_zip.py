"""Opening of zip archives from untrusted sources: .npz files, and checkpoints of torch."""

from __future__ import annotations

import os
import sys
import zipfile

from tinyvit.files.limited_reader import LimitedReader
from tinyvit.files.regular_files import open_regular_file

MAX_DIRECTORY_BYTES = 4 * 2**20
"""Largest size of the list of all entries, which zipfile reads first. It has about 80 bytes for
each entry, and becomes ten times as large in memory."""

MAX_EXPANSION = 20
"""Largest size of the unpacked entries, relative to that of the file. Zeros can be packed to a
thousandth, weights and images not nearly as much."""

MIN_CHECKED_BYTES = 256 * 2**20
"""`MAX_EXPANSION` is not checked for archives that unpack to at most this size."""

_COMPRESSION_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compression methods with which zipfile unpacks an entry only as far as it is read."""


class ZipLimitError(ValueError):
    """An archive is larger than the limits of this module. The message is a clause about "it"."""


class BoundedZipFile(zipfile.ZipFile):
    """A zip archive that is open for reading. Closing it closes the file too."""

    _file: LimitedReader | None = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the archive, and read the list of its entries.

        Args:
            path: The file.

        Raises:
            OSError: The file cannot be read, or is a pipe or a device.
            ZipLimitError: The archive is larger than the limits of this module.
            ReadLimitError: The list of its entries is larger than `MAX_DIRECTORY_BYTES`.
            zipfile.BadZipFile: The file is damaged, or is not a zip archive.
        """
        self._file = LimitedReader(open_regular_file(path).detach())
        self._file.set_limit(MAX_DIRECTORY_BYTES)
        try:
            super().__init__(self._file)
            self._file.set_limit(sys.maxsize)
            self._check_expansion(os.fstat(self._file.fileno()).st_size)
        except BaseException:
            self._file.close()
            raise

    def read_entry(self, entry: zipfile.ZipInfo, max_bytes: int) -> bytes:
        """Read a whole entry if it is not too large.

        Args:
            entry: The entry.
            max_bytes: Largest accepted size, in bytes.

        Returns:
            The unpacked content.

        Raises:
            ZipLimitError: The entry is larger.
            ValueError: The entry is truncated.
            zipfile.BadZipFile: The entry is damaged.
        """
        if entry.file_size > max_bytes:
            raise ZipLimitError(
                f"its entry {entry.filename[:100]} has {entry.file_size >> 20} MiB, more than"
                f" {max_bytes >> 20}"
            )
        with self.open(entry) as file:
            # Without a size, more than the stated size would be unpacked.
            content = file.read(entry.file_size)
        if len(content) != entry.file_size:
            raise ValueError("an entry is truncated")
        return content

    def close(self) -> None:
        """Close the archive and the file."""
        super().close()
        # zipfile calls this method even if the file could not be opened.
        if self._file is not None:
            self._file.close()

    def _check_expansion(self, file_bytes: int) -> None:
        """Raise ZipLimitError if the entries are much larger than the file, or may be."""
        for entry in self.infolist():
            if entry.compress_type not in _COMPRESSION_METHODS:
                raise ZipLimitError("it is packed by another method than deflate")
        unpacked_bytes = sum(entry.file_size for entry in self.infolist())
        if unpacked_bytes > max(MIN_CHECKED_BYTES, MAX_EXPANSION * file_bytes):
            raise ZipLimitError(
                f"it unpacks to {unpacked_bytes >> 20} MiB, {unpacked_bytes // file_bytes} times"
                " its size"
            )
