"""Limits what Pillow does with an image file, apart from the number of pixels.

Some of Pillow's readers take a step in Python for each byte, each chunk or each part of an image,
and decode JPEG scans in any number. A small file could keep them busy for hours.
"""

from __future__ import annotations

import io
import os
import re
import struct
from typing import IO, TYPE_CHECKING

from PIL import Image, ImageFile

from tinyvit.files.limited_reader import ReadLimitError

MAX_HEADER_READS = 500_000
"""Largest number of reads while the header of an image is read. Pillow skips unknown bytes one by
one. A TIFF with the largest number of tags (65,535) needs 131,000 reads."""

MAX_HEADER_BYTES = 256 * 2**20
"""Largest number of bytes that are read with the header. It includes metadata, and for WebP and
AVIF the whole file."""

MAX_JPEG_HEADER_BYTES = 16 * 2**20
"""Largest number of bytes that are read with the header of a JPEG. Pillow joins the parts of
its EXIF data in quadratic time."""

MAX_DATA_READS = 1_000_000
"""Largest number of reads while the pixels are decoded. Each chunk of a PNG needs two to four."""

MAX_TIFF_VALUES = 200_000
"""Largest number of values of a TIFF tag that does not contain bytes, such as the places of all
strips. For each strip, Pillow takes a step and some memory. A color map has 196,608 values."""

MAX_SLOW_VALUES = 2**24
"""Largest number of pixels times channels in formats that Pillow decodes in Python: PPM with
numbers in text, and BMP with run lengths."""

MAX_JPEG2000_PIXELS = 2**24
"""Largest number of pixels of a JPEG 2000 image. A small file can state that all pixels have one
color, and decoding them takes 0.4 s and 35 MB for each million pixels."""

MAX_PPM_COMMENTS = 1000
"""Largest number of comments in a PPM file with numbers in text. Each costs a copy of a MiB."""

MAX_JPEG_SCANS = 100
"""Largest number of scans of a JPEG. Each can change all pixels with a few bytes. Progressive
images have about ten."""

MAX_JPEG_SEGMENTS = 100_000
"""Largest number of segments of a JPEG. Photographs have fewer than 1,000."""

_TIFF_STARTS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
"""First bytes of TIFF files, and the byte order as `struct` writes it. "+" marks BigTIFF."""

_TIFF_BYTE_TYPES = (1, 2, 7)
"""Types of tags that contain bytes or text."""

_JPEG_START = b"\xff\xd8\xff"
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
"""Matches the end marker, and every marker that is followed by the length of its segment. It does
not match the bytes by which entropy-coded data represent FF or restart."""
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA

_NO_LIMIT = 2**62
_SLOW_DECODERS = ("ppm_plain", "bmp_rle")
_BLOCK_BYTES = 2**20

if TYPE_CHECKING:
    _Base = io.BufferedIOBase
else:
    _Base = object


class _LimitedReads(_Base):
    """A mixin for binary files that limits the number of reads, and of bytes that are read."""

    _reads_left = MAX_HEADER_READS
    _bytes_left = MAX_HEADER_BYTES

    def set_limits(self, max_reads: int, max_bytes: int) -> None:
        """Allow the next reads.

        Args:
            max_reads: Number of calls of `read`.
            max_bytes: Number of bytes, in all.
        """
        self._reads_left, self._bytes_left = max_reads, max_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as other files do; raise ReadLimitError when a limit is reached."""
        self._reads_left -= 1
        if self._reads_left < 0:
            raise ReadLimitError("it has too many parts or unknown bytes")
        if self._bytes_left < _NO_LIMIT:
            # Memory is not reserved for more than the limit.
            most = self._bytes_left + 1
            size = most if size is None or size < 0 else min(size, most)
        content = super().read(size)
        if self._bytes_left < _NO_LIMIT:
            self._bytes_left -= len(content)
        if self._bytes_left < 0:
            raise ReadLimitError("its metadata are too large")
        return content


class LimitedImageFile(_LimitedReads, io.BufferedReader):
    """An image file that is open for reading."""


class LimitedImageBytes(_LimitedReads, io.BytesIO):
    """The bytes of an image file in memory."""


def limit_header(file: LimitedImageFile | LimitedImageBytes) -> None:
    """Check the header of an image file, and limit how Pillow may read it.

    Args:
        file: The file. Its position becomes 0.

    Raises:
        ReadLimitError: The first directory of a TIFF file is too large.
    """
    file.set_limits(MAX_HEADER_READS, MAX_HEADER_BYTES)
    # Parts of the file are read by several of Pillow's readers.
    size_bytes = 2 * file.seek(0, os.SEEK_END) + _BLOCK_BYTES
    file.seek(0)
    start = file.read(16)
    if start[:4] in _TIFF_STARTS:
        _check_tiff_directory(file, start)
    is_jpeg = start.startswith(_JPEG_START)
    max_bytes = MAX_JPEG_HEADER_BYTES if is_jpeg else MAX_HEADER_BYTES
    file.set_limits(MAX_HEADER_READS, min(max_bytes, size_bytes))
    file.seek(0)


def limit_decoding(image: Image.Image) -> None:
    """Check how much work the decoding of an opened image is, and limit how Pillow may read it.

    Args:
        image: An image whose pixels may not have been decoded yet.

    Raises:
        ReadLimitError: The work may take minutes.
    """
    if not isinstance(image, ImageFile.ImageFile) or image.fp is None or not image.tile:
        return
    file, max_reads = image.fp, MAX_DATA_READS
    _set_limits(file, _NO_LIMIT)
    if image.tile[0][0] in _SLOW_DECODERS:
        value_count = image.width * image.height * len(image.getbands())
        if value_count > MAX_SLOW_VALUES:
            raise ReadLimitError(
                f"it has {value_count} values, more than {MAX_SLOW_VALUES} for this kind of file"
            )
        # Run lengths need two reads for each run.
        max_reads += 4 * value_count
        if image.tile[0][0] == "ppm_plain" and _count_signs(file, b"#") > MAX_PPM_COMMENTS:
            raise ReadLimitError(f"it has more than {MAX_PPM_COMMENTS} comments")
    elif image.tile[0][0] == "jpeg2k":
        _check_jpeg2000_size(image.width * image.height)
    elif image.tile[0][0] == "jpeg":
        _check_jpeg_segments(file)
    _set_limits(file, max_reads)


def _check_tiff_directory(file: LimitedImageFile | LimitedImageBytes, start: bytes) -> None:
    """Raise ReadLimitError if a tag in the first directory of a TIFF file has too many values."""
    order, is_big = _TIFF_STARTS[start[:4]], start[2:4] in (b"+\0", b"\0+")
    offset_format, count_format, entry_format = (
        ("Q", "Q", "HHQ8x") if is_big else ("I", "H", "HHI4x")
    )
    try:
        (offset,) = struct.unpack_from(f"{order}{offset_format}", start, 8 if is_big else 4)
        if offset >= 2**63:
            return
        file.seek(offset)
        size = struct.calcsize(f"{order}{count_format}")
        (count,) = struct.unpack(f"{order}{count_format}", file.read(size))
    except struct.error:  # the file is truncated, which Pillow explains
        return
    size = struct.calcsize(f"{order}{entry_format}")
    entries = file.read(size * min(count, MAX_HEADER_READS))
    entries = entries[: len(entries) // size * size]
    for tag, kind, value_count in struct.iter_unpack(f"{order}{entry_format}", entries):
        if kind not in _TIFF_BYTE_TYPES and value_count > MAX_TIFF_VALUES:
            raise ReadLimitError(
                f"its tag {tag} has {value_count} values, more than {MAX_TIFF_VALUES}"
            )


def _count_signs(file: IO[bytes], sign: bytes) -> int:
    """Count a sign of one byte in a whole file. The file's position stays the same."""
    position, count = file.tell(), 0
    file.seek(0)
    while block := file.read(_BLOCK_BYTES):
        count += block.count(sign)
    file.seek(position)
    return count


def _check_jpeg2000_size(pixel_count: int) -> None:
    """Raise ReadLimitError if a JPEG 2000 image has too many pixels."""
    if pixel_count > MAX_JPEG2000_PIXELS:
        raise ReadLimitError(
            f"it has {pixel_count} pixels, more than {MAX_JPEG2000_PIXELS} for JPEG 2000"
        )


def _check_jpeg_segments(file: IO[bytes]) -> None:
    """Check the numbers of scans and segments of a JPEG. The file's position stays the same.

    This takes a few percent of the time of decoding.
    """
    position = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(position)
    scan_count, segment_count, place = 0, 0, 0
    while (match := _JPEG_MARKER.search(content, place)) and match[1][0] != _JPEG_END:
        segment_count += 1
        scan_count += match[1][0] == _JPEG_SCAN
        if scan_count > MAX_JPEG_SCANS:
            raise ReadLimitError(f"it has more than {MAX_JPEG_SCANS} scans")
        if segment_count > MAX_JPEG_SEGMENTS:
            raise ReadLimitError(f"it has more than {MAX_JPEG_SEGMENTS} segments")
        place = match.end()
        place += int.from_bytes(content[place : place + 2], "big")


def _set_limits(file: IO[bytes], max_reads: int) -> None:
    """Allow a number of reads of any size, if the file can limit them."""
    if isinstance(file, _LimitedReads):
        file.set_limits(max_reads, _NO_LIMIT)
