"""Image files with which Pillow would be busy for minutes are refused quickly."""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.image_files import encode_image, make_png
from tinyvit.errors import ImageError
from tinyvit.images import colors, file_limits
from tinyvit.images.decoding import open_image


def make_chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def make_tiff(tag: int, count: int) -> bytes:
    """Return a TIFF of 10 x 10 gray pixels with a tag of as many numbers of 4 bytes."""
    values = {256: 10, 257: 10, 258: 8, 259: 1, 262: 1, 273: 200, 277: 1}
    entries = {key: (4, 1, value) for key, value in values.items()} | {tag: (4, count, 200)}
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", key, *entry) for key, entry in sorted(entries.items())
    )
    start = b"II*\0" + struct.pack("<I", 8) + directory + bytes(4)
    return start.ljust(200, b"\0") + struct.pack("<I", 200) * count + bytes(200)


def make_scans(count: int) -> bytes:
    """Return a progressive JPEG with many scans."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (64, 64), np.uint8))
    content = encode_image(image, "JPEG", progressive=True)
    starts = [place for place in range(len(content)) if content[place : place + 2] == b"\xff\xda"]
    scan = content[starts[1] : starts[2]]
    return content[: starts[2]] + scan * count + content[starts[2] :]


def make_run_lengths() -> bytes:
    """Return a BMP of 200,000 x 447 pixels, in which each row is a run of one pixel."""
    runs = b"\x01\x01\x00\x00" * 447
    header = struct.pack("<IiiHHIIiiII", 40, 200_000, 447, 1, 8, 1, len(runs), 0, 0, 256, 0)
    start = b"BM" + struct.pack("<IHHI", 14 + 40 + 1024 + len(runs), 0, 0, 14 + 40 + 1024)
    return start + header + bytes(1024) + runs


def make_jpeg2000() -> bytes:
    """Make a JPEG 2000 image of 8 x 8 pixels whose header states 4096 x 4097."""
    codestream = bytearray(encode_image(Image.new("L", (8, 8)), "JPEG2000", no_jp2=True))
    # The marker of the size is at byte 2; its parameters are Lsiz, Rsiz, Xsiz, Ysiz, XOsiz, YOsiz,
    # XTsiz and YTsiz (ISO/IEC 15444-1, A.5.1).
    assert codestream[2:4] == b"\xff\x51"
    struct.pack_into(">IIIIII", codestream, 8, 4096, 4097, 0, 0, 4096, 4097)
    return bytes(codestream)


PNG_HEADER = b"\x89PNG\r\n\x1a\n" + make_chunk(
    b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
)
PNG_END = make_chunk(b"IDAT", zlib.compress(bytes(20))) + make_chunk(b"IEND", b"")

SLOW: dict[str, tuple[Callable[[], bytes], str]] = {
    "PPM comments": (lambda: b"P3\n9 9\n255\n" + b"#\n" * 10**6, "more than 1000 comments"),
    "PPM numbers": (lambda: b"P2\n5000 5000\n255\n" + b"1 " * 100, "more than 16777216 for this"),
    "JPEG junk": (lambda: b"\xff\xd8" + b"\xff" * 10**6, "too many parts or unknown bytes"),
    "JPEG scans": (lambda: make_scans(100), "it has more than 100 scans"),
    "JPEG segments": (
        lambda: (
            (jpeg := encode_image(Image.new("RGB", (8, 8)), "JPEG"))[:-2]
            + b"\xff\xe0\0\2" * 100_000
            + jpeg[-2:]
        ),
        "it has more than 100000 segments",
    ),
    "JPEG EXIF": (
        lambda: b"\xff\xd8" + (b"\xff\xe1\xff\xffExif\0\0" + bytes(65527)) * 300,
        "its metadata are too large",
    ),
    "PNG chunks": (
        lambda: PNG_HEADER + make_chunk(b"prIv", b"") * 260_000 + PNG_END,
        "too many parts or unknown bytes",
    ),
    "PNG parts": (
        lambda: PNG_HEADER + make_chunk(b"IDAT", b"") * 600_000 + PNG_END,
        "too many parts or unknown bytes",
    ),
    "TIFF strips": (lambda: make_tiff(273, 200_001), "its tag 273 has 200001 values"),
    "TIFF bits": (lambda: make_tiff(258, 200_001), "its tag 258 has 200001 values"),
    "JPEG 2000": (make_jpeg2000, "it has 16781312 pixels, more than 16777216 for JPEG 2000"),
    "BMP runs": (make_run_lengths, "it has 89400000 values, more than 16777216"),
}


@pytest.mark.parametrize("name", SLOW)
def test_files_that_take_many_steps_are_refused(tmp_path: Path, name: str) -> None:
    make, reason = SLOW[name]
    path = tmp_path / "a"
    path.write_bytes(make())
    for source in (path, path.read_bytes()):
        start = time.process_time()
        with pytest.raises(ImageError, match=f"would take too long to decode: .*{reason}"):
            open_image(source)
        assert time.process_time() - start < 10


@pytest.mark.parametrize("start", [b"P6 #", b"\xff\xd8\xff\xff"])
def test_a_sparse_file_is_not_skipped_byte_by_byte(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(start)
    os.truncate(path, 2**30)
    with pytest.raises(ImageError, match="too many parts or unknown bytes"):
        open_image(path)


def test_a_file_that_is_read_whole_is_refused_before_its_memory_is_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.webp"
    path.write_bytes(b"RIFF\xff\xff\xff\xffWEBPVP8 ")
    os.truncate(path, 2**20)
    monkeypatch.setattr(file_limits, "MAX_HEADER_BYTES", 1000)
    with pytest.raises(ImageError, match="its metadata are too large"):
        open_image(path)
    with pytest.raises(ImageError, match="its metadata are too large"):
        open_image(path.read_bytes())


def test_usual_numbers_of_parts_are_decoded() -> None:
    """Files below the limits are decoded as before."""
    assert open_image(make_scans(80)).size == (64, 64)
    assert open_image(make_tiff(273, 10)).size == (10, 10)
    ppm = b"P3\n# a\n2 1\n255\n1 2 3 # b\n4 5 6 # c\n"
    assert open_image(ppm).tobytes() == bytes([1, 2, 3, 4, 5, 6])
    chunks = [(b"prIv", b"x")] * 1000
    png = make_png((2, 1), 8, 0, b"\0\7\7", *chunks)
    assert open_image(png).tobytes() == bytes([7] * 6)


def test_marks_of_scans_in_other_places_do_not_count() -> None:
    """A thumbnail, and what is appended to a photo, can contain the same bytes."""
    content = encode_image(Image.new("RGB", (9, 9), "red"), "JPEG")
    comment = b"\xff\xfe" + struct.pack(">H", 2002) + b"\xff\xda" * 1000
    photo = content[:2] + comment + content[2:] + b"\xff\xda" * 1000
    assert open_image(photo).tobytes() == open_image(content).tobytes()


def test_large_exif_data_are_ignored() -> None:
    entry = b"II*\0" + struct.pack("<IHHHIHH", 8, 1, 0x0112, 3, 1, 6, 0) + bytes(4)
    for size, expected in ((0, (1, 2)), (2**24, (2, 1))):
        png = make_png((2, 1), 8, 0, b"\0\7\7", (b"eXIf", entry + bytes(size)))
        assert open_image(png).size == expected


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "I"])
def test_blocks_of_rows_give_the_same_image(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 65536, (37, 23), dtype=np.uint16))
    if mode not in ("I;16", "I"):
        image = Image.fromarray(rng.integers(0, 256, (37, 23, 4), np.uint8))
    image = image if image.mode == mode else image.convert(mode)
    whole = open_image(image).tobytes()
    monkeypatch.setattr(colors, "_BLOCK_PIXELS", 70)
    assert open_image(image).tobytes() == whole
