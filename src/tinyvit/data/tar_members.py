"""Reading the headers of tar files from untrusted sources, with limits on their size."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator

from tinyvit.files.limited_reader import LimitedReader, ReadLimitError

MAX_HEADER_BYTES = 64 * 2**10
"""Largest size of all headers of one member: its own, and those with its long name, its extended
attributes and the map of its holes. A file system's longest path has 4096 bytes."""

MAX_MEMBERS = 5_000_000
"""Tar files with more members (files and folders) are refused."""

TAR_ERRORS = (
    OSError,
    tarfile.TarError,
    ValueError,
    EOFError,
    # Headers that are about other headers are read recursively, and sizes can exceed 64 bits.
    RecursionError,
    OverflowError,
)
"""Errors that `iterate_members` raises for files that are damaged or too large."""

_LONG_NUMBER = re.compile(rb"\d{200}")
"""Digits that no header contains. Versions of Python before 3.11.10 and 3.12.6 search headers with
a regular expression that takes quadratic time for them."""


class _HeaderReader(LimitedReader):
    """Reads the headers of a tar file."""

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        if _LONG_NUMBER.search(content):
            raise ReadLimitError("a header contains a number of 200 digits")
        return content


def iterate_members(file: io.BufferedReader | io.BytesIO) -> Iterator[tarfile.TarInfo]:
    """Read the header of each member of an uncompressed tar file.

    Args:
        file: The binary file. The contents of the members are not read.

    Yields:
        The members, in the order of the file.

    Raises:
        ValueError: A header is too long, or there are more than `MAX_MEMBERS` members.
        Exception: One of `TAR_ERRORS`: the file is damaged or not an uncompressed tar file.
    """
    reader = _HeaderReader(file)
    reader.set_limit(MAX_HEADER_BYTES)
    last_offset = -1
    with tarfile.open(fileobj=reader, mode="r:") as archive:
        for _ in range(MAX_MEMBERS + 1):
            member = archive.next()
            if member is None:
                return
            # A negative size would lead back to a previous header, again and again.
            if member.size < 0 or member.offset <= last_offset:
                raise ValueError("a member states a negative size")
            last_offset = member.offset
            # Otherwise, the archive keeps all members in memory.
            archive.members.clear()  # type: ignore[attr-defined]
            yield member
            reader.set_limit(MAX_HEADER_BYTES)
    raise ValueError(f"it has more than {MAX_MEMBERS} members")
