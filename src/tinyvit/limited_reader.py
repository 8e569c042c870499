"""Reading of archives whose headers may state any size.

The modules tarfile and zipfile read as many bytes of headers as an archive states, which can be
gigabytes. They read from a `LimitedReader` instead, which refuses that before allocating memory.
"""

from __future__ import annotations

import io


class ReadLimitError(ValueError):
    """More bytes are to be read than `LimitedReader` allows."""


class LimitedReader(io.BufferedReader):
    """A binary file of which only so many bytes are read until the limit is set again.

    Reading fails before memory is allocated for it. Moving to another position costs nothing.
    """

    _bytes_left = 0

    def set_limit(self, max_bytes: int) -> None:
        """Allow the next reads.

        Args:
            max_bytes: Number of bytes, in all.
        """
        self._bytes_left = max_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        """Read bytes from the current position.

        Args:
            size: Number of bytes; None or a negative number for all up to the end of the file.

        Returns:
            The bytes, fewer at the end of the file.

        Raises:
            ReadLimitError: There are more bytes than what is left of the limit.
        """
        is_whole = size is None or size < 0
        count = self._bytes_left + 1 if size is None or size < 0 else size
        if not is_whole and count > self._bytes_left:
            raise ReadLimitError("a header is too long")
        content = super().read(count)
        if len(content) > self._bytes_left:
            raise ReadLimitError("a header is too long")
        self._bytes_left -= len(content)
        return content
