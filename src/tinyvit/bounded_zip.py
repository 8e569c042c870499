"""Opening of zip archives from untrusted sources: .npz files, and checkpoints of torch."""

from __future__ import annotations

import os
import sys
import zipfile

from tinyvit.limited_reader import LimitedReader
from tinyvit.regular_files import open_regular_file

MAX_DIRECTORY_BYTES = 4 * 2**20
"""Largest size of the list of all entries, which zipfile reads first. It has about 80 bytes for each
entry, and becomes ten times as large in memory."""

MAX_EXPANSION = 20
"""Largest size of the unpacked entries, relative to that of the file. Zeros can be packed to a
thousandth, weights and images not nearly as much."""

MIN_CHECKED_BYTES = 256 * 2**20
"""Archives that unpack to less may be packed to any size."""


class BoundedZipFile(zipfile.ZipFile):
    """A zip archive that is open for reading. Closing it closes the file too."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the archive, and read the list of its entries.

        Args:
            path: The file.

        Raises:
            OSError: The file cannot be read, or is a pipe or a device.
            ValueError: The archive is larger than the limits of this module.
            zipfile.BadZipFile: The file is damaged, or is not a zip archive.
        """
        self._file = LimitedReader(open_regular_file(path).detach())
        self._file.set_limit(MAX_DIRECTORY_BYTES)
        try:
            super().__init__(self._file)
            self._file.set_limit(sys.maxsize)
            self._check_expansion()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the archive and the file."""
        super().close()
        self._file.close()

    def _check_expansion(self) -> None:
        """Raise ValueError if the entries are much larger than the file."""
        unpacked_bytes = sum(entry.file_size for entry in self.infolist())
        file_bytes = os.fstat(self._file.fileno()).st_size
        if unpacked_bytes > max(MIN_CHECKED_BYTES, MAX_EXPANSION * file_bytes):
            raise ValueError(
                f"it unpacks to {unpacked_bytes >> 20} MiB, {unpacked_bytes // file_bytes} times"
                " its size"
            )
