"""Image files made by Pillow, or byte by byte where Pillow cannot write what a test needs."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def encode_image(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    """Encode an image with Pillow; `options` are those of the format."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def make_png(
    size: tuple[int, int],
    depth: int,
    color_type: int,
    rows: bytes,
    *chunks: tuple[bytes, bytes],
) -> bytes:
    """Write a PNG file from its parts.

    `size` is width and height, `rows` are the filtered rows before compression, and `chunks` are
    the names and contents of chunks between the header and the pixels.
    """
    header = struct.pack(">IIBBBBB", *size, depth, color_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_make_chunk(*part) for part in parts)


def _make_chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def save_crops(photographs: Path, folder: Path, count: int) -> list[Path]:
    """Save random crops of the two example photographs, enough to calibrate int8 with.

    `photographs` is the folder of the originals, and `count` the number of crops of each.
    """
    rng, paths = np.random.default_rng(0), []
    for name in ("cat.jpg", "coffee.jpg"):
        with Image.open(photographs / name) as photograph:
            for i, (left, top) in enumerate(rng.random((count, 2))):
                x, y = int(left * (photograph.width - 160)), int(top * (photograph.height - 160))
                paths.append(folder / f"{i}-{name}.png")
                photograph.crop((x, y, x + 160, y + 160)).save(paths[-1])
    return paths
