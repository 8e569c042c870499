"""Image files, written by Pillow or, where Pillow cannot write what a test needs, byte by byte."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

CROP_SIZE = 160
"""Side in pixels of the crops that `save_crops` saves."""


def encode_image(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    """Encode an image with Pillow; `options` are Pillow's save options for the format."""
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
    """Make the bytes of a PNG file.

    Args:
        size: Width and height in pixels.
        depth: Bits per channel.
        color_type: Color type of the PNG specification: 0 gray, 2 RGB, 3 palette, 4 gray with
            alpha, 6 RGB with alpha.
        rows: The rows of pixels, each with its filter byte, not compressed.
        chunks: Names and contents of additional chunks between the header and the pixels.
    """
    header = struct.pack(">IIBBBBB", *size, depth, color_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_make_chunk(*part) for part in parts)


def _make_chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def save_crops(photographs: Path, folder: Path, count: int) -> list[Path]:
    """Save random crops of the two example photographs as images for calibration.

    Args:
        photographs: Folder of cat.jpg and coffee.jpg.
        folder: An existing folder for the crops.
        count: Number of crops of each photograph.

    Returns:
        The paths of all crops.
    """
    rng, paths = np.random.default_rng(0), []
    for name in ("cat.jpg", "coffee.jpg"):
        with Image.open(photographs / name) as photograph:
            for i, (left, top) in enumerate(rng.random((count, 2))):
                x = int(left * (photograph.width - CROP_SIZE))
                y = int(top * (photograph.height - CROP_SIZE))
                paths.append(folder / f"{i}-{name}.png")
                photograph.crop((x, y, x + CROP_SIZE, y + CROP_SIZE)).save(paths[-1])
    return paths
