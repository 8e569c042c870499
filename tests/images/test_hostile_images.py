"""Images of unusual sizes are refused quickly, and decoders print nothing."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinyvit.errors import ImageError
from tinyvit.images import decoding
from tinyvit.images.decoding import MAX_FILE_BYTES, MAX_SIDE, open_image


def make_empty_png(width: int, height: int) -> bytes:
    """Return a gray PNG with the given size in its header, and no rows."""

    def make_chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(make_chunk(*chunk) for chunk in chunks)


@pytest.mark.parametrize("size", [(1, 89_000_000), (89_000_000, 1), (2, 200_001), (200_001, 2)])
def test_very_long_sides_are_refused_before_decoding(size: tuple[int, int]) -> None:
    width, height = size
    with pytest.raises(ImageError, match=f"{width} x {height}: a side has more than 200000"):
        open_image(make_empty_png(*size))


@pytest.mark.parametrize("size", [(1, 200_000), (200_000, 1)])
def test_the_longest_allowed_sides_are_decoded(size: tuple[int, int]) -> None:
    assert max(size) == MAX_SIDE
    buffer = io.BytesIO()
    Image.new("L", size, 7).save(buffer, "PNG")
    image = open_image(buffer.getvalue())
    assert image.size == size
    assert image.getextrema() == ((7, 7), (7, 7), (7, 7))


def test_a_file_of_many_gigabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    path.write_bytes(b"RIFF\xff\xff\xff\xffWEBPVP8 ")
    with path.open("r+b") as file:
        file.truncate(10 * 2**30)
    with pytest.raises(ImageError, match=r"has 10\.0 GiB, more than 1"):
        open_image(path)
    assert MAX_FILE_BYTES == 2**30


def test_bytes_of_any_size_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_FILE_BYTES", 10)
    with pytest.raises(ImageError, match="the image of 11 bytes has"):
        open_image(bytes(11))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "group4", "jpeg"])
def test_libtiff_prints_nothing_about_damaged_images(tmp_path: Path, compression: str) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8))
    buffer = io.BytesIO()
    image = image.convert("1") if compression == "group4" else image
    image.save(buffer, "TIFF", compression=compression)
    content = bytearray(buffer.getvalue())
    position = len(content) // 2
    content[position : position + 20] = bytes([0x55] * 20)
    (tmp_path / "a.tif").write_bytes(content)
    code = f"""
import threading
from tinyvit.errors import ImageError
from tinyvit.images.decoding import open_image

def decode():
    for _ in range(20):
        try:
            open_image({str(tmp_path / "a.tif")!r})
        except ImageError:
            pass

threads = [threading.Thread(target=decode) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stderr == ""


def test_the_handler_of_libtiff_is_restored() -> None:
    from tinyvit.images import libtiff_messages

    set_handler = libtiff_messages._find_handler_setter()
    if set_handler is None:
        pytest.skip("this Pillow does not make libtiff accessible")
    before = set_handler(None)
    set_handler(before)
    with libtiff_messages.silence_libtiff(), libtiff_messages.silence_libtiff():
        assert set_handler(None) is None
    after = set_handler(before)
    assert after == before is not None
