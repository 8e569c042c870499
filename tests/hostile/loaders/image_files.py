"""Hostile images, in every format that is read."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, features

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.hostile.hostile_files import GIB, HostileFile, Loader, make_file, make_lazy_file
from tests.hostile.image_mutations import mutate_image
from tests.hostile.small_artifact import write_small_artifact
from tests.hostile.special_files import make_long_link, make_sparse_writer, yield_special_files
from tinyvit.runtimes.classifier import Classifier

_SIDE = 24
_LARGEST_SIDE = 9459
"""Side of a square of almost as many pixels as are allowed."""


def predict(path: Path) -> None:
    """Predict the class of an image file, and of its bytes if it is small."""
    with Classifier(write_small_artifact()) as classifier:
        classifier.predict(path)
        if path.stat().st_size < 2**20:
            classifier.predict(path.read_bytes())


def make_samples(folder: Path) -> Sequence[Path]:
    """Make an image of every format, compression and mode."""
    rng = np.random.default_rng(0)
    color = Image.fromarray(rng.integers(0, 256, (_SIDE, _SIDE, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "text" * 10
    profile = bytes(rng.integers(0, 256, 300, np.uint8))
    samples = []
    for name, mode, options in _list_forms():
        path = folder / name
        image = color.convert(mode)
        if path.suffix in (".jpg", ".png", ".webp", ".avif"):
            options = {"exif": exif, "icc_profile": profile, **options}
        image.save(path, **options)
        samples.append(path)
    return samples


def _list_forms() -> Iterator[tuple[str, str, dict[str, object]]]:
    """Yield names of files, modes of Pillow, and options for saving them."""
    frame = Image.new("RGB", (_SIDE, _SIDE), "red")
    yield "a.jpg", "RGB", {}
    yield "progressive.jpg", "RGB", {"progressive": True}
    yield "cmyk.jpg", "CMYK", {"comment": b"text"}
    yield "multi.mpo", "RGB", {"save_all": True, "append_images": [frame], "format": "MPO"}
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield f"{mode.replace(';', '')}.png", "I;16" if mode == "I;16" else mode, {}
    yield "animated.png", "RGB", {"save_all": True, "append_images": [frame]}
    yield "a.gif", "P", {"comment": b"text", "transparency": 3}
    yield "animated.gif", "RGB", {"save_all": True, "append_images": [frame]}
    yield "a.bmp", "RGB", {}
    yield "palette.bmp", "P", {}
    for suffix, mode in ((".pbm", "1"), (".pgm", "L"), (".ppm", "RGB")):
        yield f"a{suffix}", mode, {}
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield f"{compression}.tif", "RGB", {"compression": compression}
    yield "group4.tif", "1", {"compression": "group4"}
    yield "alpha.tif", "RGBA", {}
    yield "big.tif", "RGB", {"big_tiff": True}
    if features.check("webp"):
        yield "a.webp", "RGBA", {}
        yield "lossless.webp", "RGB", {"lossless": True}
        yield "animated.webp", "RGB", {"save_all": True, "append_images": [frame]}
    if features.check("jpg_2000"):
        yield "a.jp2", "RGB", {}
        yield "tiles.jp2", "RGBA", {"tile_size": (16, 16), "num_resolutions": 3}
    if features.check("avif"):
        yield "a.avif", "RGB", {"speed": 10}
        yield "animated.avif", "RGB", {"save_all": True, "append_images": [frame], "speed": 10}


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield images that need much time or memory, and files that are none."""
    yield from yield_special_files("a.png")
    yield make_long_link("a.png")
    yield from _yield_large_images()
    yield from _yield_slow_files()
    yield from _yield_metadata()
    for suffix in (
        ".jpg",
        ".png",
        ".tif",
        ".jp2",
        ".avif",
        ".heic",
        ".svg",
        ".eps",
        ".ico",
        ".psd",
    ):
        yield make_file(f"a{suffix}", f"random bytes in a {suffix}", generator.randbytes(1000))
    for start in _STARTS:
        yield make_file("a.png", f"{start!r} and random bytes", start + generator.randbytes(3000))
        writer = make_sparse_writer("a.png", 2**30, start)
        yield HostileFile(f"{start!r} and zeros up to a GiB", writer)


_STARTS = (
    *(b"\xff\xd8\xff", b"\xff\xd8\xff\xff", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", b"GIF89a", b"BM"),
    *(b"P1 ", b"P3 #", b"P6 #", b"Pf ", b"II*\0", b"MM\0+", b"RIFF\xff\xff\xff\xffWEBPVP8L"),
    *(
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"\xff\x4f\xff\x51",
        b"\0\0\0\x20ftypavif",
        b"\0\0\0\x20ftypheic",
    ),
    *(b"%!PS-Adobe", b"\0\0\1\0", b"8BPS", b"<svg", b"<!doctype html", b"data:image/png;base64,"),
)
"""First bytes of formats."""


def _save(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _yield_large_images() -> Iterator[HostileFile]:
    """Yield small files of almost as many pixels as are allowed, and of more."""
    forms = [("PNG", mode, {}) for mode in ("1", "L", "LA", "RGB", "RGBA", "I;16", "P")]
    forms += [("TIFF", "RGBA", {"compression": "tiff_adobe_deflate"}), ("GIF", "L", {})]
    forms += [("JPEG", "L", {}), ("TIFF", "I;16", {"compression": "tiff_lzw"})]
    for format, mode, options in forms:
        yield make_lazy_file(
            "a.png",
            f"{_LARGEST_SIDE} x {_LARGEST_SIDE} pixels of {mode} as {format}",
            lambda format=format, mode=mode, options=options: _save(
                Image.new(mode, (_LARGEST_SIDE, _LARGEST_SIDE)), format, **options
            ),
        )
    for width, height in ((2**31 - 1, 1), (1, 2**31 - 1), (2**16, 2**16), (0, 5), (1, 89_000_000)):
        description = f"{width} x {height} pixels as"
        header = struct.pack(">II", width, height) + b"\x08\0\0\0\0"
        png = b"\x89PNG\r\n\x1a\n" + _make_chunk(b"IHDR", header) + _make_chunk(b"IDAT", b"")
        yield make_file("a.png", f"{description} PNG", png)
        yield make_file("a.ppm", f"{description} PPM", b"P6 %d %d 255\n" % (width, height))
        yield make_file("a.pbm", f"{description} PBM", b"P1 %d %d\n" % (width, height))
        bmp = struct.pack("<IHHIIiiHH", 100, 0, 0, 54, 40, width, height, 1, 24) + bytes(24)
        yield make_file("a.bmp", f"{description} BMP", b"BM" + bmp)
        yield make_file("a.tif", f"{description} TIFF", _make_tiff({256: width, 257: height}))
        siz = struct.pack(">HHIIIIIIIIH", 41, 0, width, height, 0, 0, width, height, 0, 0, 1)
        j2k = b"\xff\x4f\xff\x51" + siz + b"\x07\1\1"
        yield make_file("a.j2k", f"{description} JPEG 2000", j2k)


def _make_chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def _make_tiff(values: dict[int, int], counts: dict[int, int] | None = None) -> bytes:
    """Return a TIFF with tags of 4 bytes; `counts` states the number of values of some."""
    defaults = {256: 10, 257: 10, 258: 8, 259: 1, 262: 1, 273: 300, 277: 1}
    entries = {tag: (1, value) for tag, value in {**defaults, **values}.items()}
    entries |= {tag: (count, 300) for tag, count in (counts or {}).items()}
    content = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, 4, *entry) for tag, entry in sorted(entries.items())
    )
    return (b"II*\0" + struct.pack("<I", 8) + content).ljust(300, b"\0") + bytes(1000)


def _yield_slow_files() -> Iterator[HostileFile]:
    """Yield files with which a decoder may be busy for long."""
    scans = _save(Image.effect_noise((64, 64), 50), "JPEG", progressive=True)
    first, second = (scans.index(b"\xff\xda", scans.index(b"\xff\xda") + n) for n in (0, 1))
    third = scans.index(b"\xff\xda", second + 1)
    png = b"\x89PNG\r\n\x1a\n" + _make_chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0))
    rle = struct.pack("<IHHIIiiHHIIiiII", 9**9, 0, 0, 1078, 40, 9, 9**8, 1, 8, 1, 0, 0, 0, 256, 0)
    files = {
        "comments in PPM": lambda: b"P3\n9 9\n255\n" + b"#\n" * 3_000_000,
        "numbers in PPM": lambda: b"P2\n4000 4000\n255\n" + b"1 " * 16_000_000,
        "junk in JPEG": lambda: b"\xff\xd8" + b"\xff" * 50_000_000,
        "100,000 scans": lambda: scans[:third] + scans[second:third] * 100_000,
        "EXIF data in 1,000 parts": lambda: (
            b"\xff\xd8" + (b"\xff\xe1\xff\xffExif\0\0" + bytes(65527)) * 1000
        ),
        "2,000,000 chunks": lambda: png + _make_chunk(b"teSt", b"") * 2_000_000,
        "2,000,000 empty IDAT": lambda: png + _make_chunk(b"IDAT", b"") * 2_000_000,
        "9,000,000 GIF extensions": lambda: b"GIF89a\1\0\1\0\0\0\0" + b"!\xff\0" * 9_000_000,
        "GIF comments of 100 MB": lambda: b"GIF89a\1\0\1\0\0\0\0!\xfe" + (b"\xff" * 256) * 400_000,
        "endless runs in BMP": lambda: b"BM" + rle + bytes(50_000_000),
        "1,000,000 strips": lambda: _make_tiff({}, {273: 1_000_000}) + bytes(4_000_000),
        "1,000,000 numbers of bits": lambda: _make_tiff({}, {258: 10**6}) + bytes(4_000_000),
        "65,535 tags": lambda: (
            b"II*\0\x08\0\0\0\xff\xff"
            + b"".join(struct.pack("<HHII", tag, 7, 2**19, 8) for tag in range(65535))
            + bytes(4)
        ),
        "1,000,000 directories": lambda: (
            _make_tiff({})[:94]
            + struct.pack("<I", 1300)
            + _make_tiff({})[98:]
            + b"".join(struct.pack("<HI", 0, 1306 + 6 * n) for n in range(1_000_000))
        ),
    }
    for description, make in files.items():
        yield make_lazy_file("a.png", description, make)
    assert first < second


def _yield_metadata() -> Iterator[HostileFile]:
    """Yield images with odd metadata: control characters, wrong types, bombs."""
    image, text = Image.new("RGB", (9, 9)), HOSTILE_TEXT
    exif = b"II*\0" + struct.pack("<IH", 8, 1)
    for kind in (0, 1, 3, 4, 5, 7, 12, 16, 99):
        for count in (0, 2**28, 2**32 - 1):
            entry = exif + struct.pack("<HHII", 0x0112, kind, count, 6) + bytes(4)
            data = _save(image, "JPEG", exif=b"Exif\0\0" + entry)
            yield make_file("a.jpg", f"an orientation of type {kind}, {count} times", data)
    orientations = [(number, 0) for number in (0, 9, 255, 65535)]
    for number, _ in orientations:
        data = _save(image, "JPEG", exif=exif + struct.pack("<HHIHH", 0x0112, 3, 1, number, 0))
        yield make_file("a.jpg", f"the orientation {number}", data)
    png = _save(image, "PNG")
    raw = text.encode("utf-8", "surrogatepass")
    bomb = zlib.compress(bytes(2**26))
    for name, content in (
        (b"tEXt", b"Raw profile type exif\0" + b"\n\n\nzz"),
        (b"tEXt", b"XML:com.adobe.xmp\0" + raw),
        (b"iTXt", b"k\0\1\0" + raw + b"\0\0" + bomb),
        (b"zTXt", b"k\0\0" + bomb),
        (b"iCCP", b"k\0\0" + bomb),
        (b"eXIf", bytes(2**20)),
        (b"acTL", b"\xff" * 8),
        (b"fdAT", b"\xff" * 8),
        (b"tRNS", b"\xff" * 1000),
        (b"PLTE", b"\xff" * 1000),
        (b"sBIT", b""),
        (b"\x1b[2J", raw),
    ):
        chunks = _make_chunk(name, content)
        yield make_file("a.png", f"a chunk {name!r}", png[:33] + chunks + png[33:])
        yield make_file("a.png", f"100 chunks {name!r}", png[:33] + chunks * 100 + png[33:])
    for path in ("\x1b[2Ja.png", "a\nb.png", "\u202ea.png", "a\udcff.png", "-a.png", "~", " .png"):
        yield make_file(path, f"the name {path!a}", png[:60])
        yield make_file(path, f"the name {path!a} of a good image", png)


LOADERS = (
    Loader(
        "images: predict",
        predict,
        make_samples,
        craft,
        mutate=mutate_image,
        memory_bytes=2 * GIB,
    ),
)
