"""Reading of archives whose headers may state any size.

The modules tarfile and zipfile read as many bytes of headers as an archive states, which can be
gigabytes. They read from a `LimitedReader` instead, which refuses that before allocating memory.
"""

from __future__ import annotations

import io


class ReadLimitError(ValueError):
    """A file exceeds a limit on what is read from it."""


class LimitedReader(io.BufferedReader):
    """A binary file of which only so many bytes are read until the limit is set again.

    Reading fails before memory is allocated for more. Moving to another position costs nothing. The
    methods that tarfile, zipfile and pickletools use, `read` and `readline`, are limited.
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
        if size is None or size < 0:
            return self._count(super().read(self._bytes_left + 1))
        if size > self._bytes_left:
            raise ReadLimitError("a header is too long")
        return self._count(super().read(size))

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read bytes up to the next line feed, as `read` does.

        Args:
            size: Largest number of bytes; None or a negative number for any.

        Returns:
            The bytes, with the line feed.

        Raises:
            ReadLimitError: The line is longer than what is left of the limit.
        """
        is_limited = size is not None and 0 <= size <= self._bytes_left
        return self._count(super().readline(size if is_limited else self._bytes_left + 1))

    def _count(self, content: bytes) -> bytes:
        """Subtract bytes from the limit and return them; raise ReadLimitError if it is exceeded."""
        if len(content) > self._bytes_left:
            raise ReadLimitError("a header is too long")
        self._bytes_left -= len(content)
        return content
