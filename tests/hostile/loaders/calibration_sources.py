"""Hostile lists and arrays of images for calibration, and lists for validation."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.helpers.random_images import save_random_images
from tests.hostile.hostile_files import GIB, HostileFile, Loader, make_file
from tests.hostile.mutations import mutate_bytes
from tests.hostile.special_files import make_long_link, yield_special_files
from tinyvit.labels import Label
from tinyvit.preprocess import Preprocess
from tinyvit.quant.images.calibration_data import MIN_IMAGES, read_calibration_split
from tinyvit.quant.images.validation_data import read_validation_set

_COUNT = MIN_IMAGES + 2


def calibrate(path: Path) -> None:
    """Read images as `tinyvit-export --calib-data` does."""
    read_calibration_split(path, Preprocess(32, 36), count=MIN_IMAGES)


def make_list_samples(folder: Path) -> Sequence[Path]:
    """Make a folder of images, and in it a list of them."""
    save_random_images(folder / "images", range(_COUNT))
    path = folder / "images" / "list.txt"
    path.write_text("".join(f"{number:03}.png\n" for number in range(_COUNT)))
    return (folder / "images",)


def calibrate_with_list(path: Path) -> None:
    """Read the images of a folder, and those of the list in it."""
    calibrate(path)
    if (path / "list.txt").exists():
        calibrate(path / "list.txt")


def evaluate_list(path: Path) -> None:
    """Read the list in a folder as `tinyvit-export --val-data` does, and decode its images."""
    validation = read_validation_set(path / "labeled.txt", Preprocess(32, 36), (Label("tabby"),))
    for _ in validation.batches():
        pass


def make_labeled_samples(folder: Path) -> Sequence[Path]:
    """Make a folder of images, and in it a list of them with their class."""
    save_random_images(folder / "images", range(_COUNT))
    path = folder / "images" / "labeled.txt"
    path.write_text("".join(f"{number:03}.png\ttabby\n" for number in range(_COUNT)))
    return (folder / "images",)


def craft_labeled_lists(generator: random.Random) -> Iterator[HostileFile]:
    """Yield lists of images and classes with odd lines, and very long ones."""
    yield from _craft_lists("labeled.txt", b"\ttabby")
    for line in (b"\t", b"000.png\t", b"\ttabby", b"000.png\t\ttabby", b"000.png\tlion"):
        yield _make_list("labeled.txt", f"the line {line!a}", lambda d=line: d)
    yield _make_list(
        "labeled.txt",
        "1,000,000 images",
        lambda: "".join(f"{number}.png\ttabby\n" for number in range(1_000_000)).encode(),
    )


def craft_lists(generator: random.Random) -> Iterator[HostileFile]:
    """Yield lists with odd lines, and very long ones."""
    yield from _craft_lists("list.txt", b"")


def _craft_lists(name: str, line_end: bytes) -> Iterator[HostileFile]:
    """Yield lists with this file name, each of whose lines has this end before its break."""
    lines = (
        "/dev/zero",
        "/dev/tty",
        "/proc/kmsg",
        "/proc/self/mem",
        "/",
        ".",
        "..",
        "~",
        "~root/x",
    )
    lines += ("list.txt", "nothing.png", "x" * 5000, "a/" * 5000, "http://a/b.png", "\x1b[2J.png")
    lines += (
        "\ufeff000.png",
        "000.png\0",
        HOSTILE_TEXT,
        "data:image/png;base64,AAAA",
        "\u0f73" * 9999,
    )
    for line in lines:
        data = line.encode("utf-8", "surrogatepass")
        for count in (1, 60):
            yield _make_list(
                name,
                f"the line {line!a:.30} {count} times",
                lambda d=data, c=count: (d + line_end + b"\n") * c,
            )
    yield _make_list(name, "2,000,000 lines", lambda: (b"000.png" + line_end + b"\n") * 2_000_000)
    yield _make_list(name, "1,000,000 lines", lambda: (b"0.png" + line_end + b"\n") * 1_000_000)
    yield _make_list(name, "60,000,000 breaks", lambda: b"\n" * 60_000_000)
    yield _make_list(name, "a line of 60 MB", lambda: b"x" * 60_000_000)
    yield _make_list(name, "UTF-16", lambda: "000.png\n".encode("utf-16"))


def _make_list(name: str, description: str, make: Callable[[], bytes]) -> HostileFile:
    """Make a folder of good images, with a hostile list of this file name."""

    def write(folder: Path) -> Path:
        save_random_images(folder / "images", range(_COUNT))
        (folder / "images" / name).write_bytes(make())
        return folder / "images"

    return HostileFile(description, write)


def make_array_samples(folder: Path) -> Sequence[Path]:
    """Make arrays of images, compressed and not."""
    pixels = np.random.default_rng(0).integers(0, 256, (_COUNT, 20, 24, 3), np.uint8)
    np.savez(folder / "a.npz", images=pixels)
    np.savez_compressed(folder / "b.npz", pixels)
    return folder / "a.npz", folder / "b.npz"


def mutate_array(data: bytes, generator: random.Random) -> bytes:
    """Change the header of the array in an .npz file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        content = archive.read(archive.namelist()[0])
    header = content[10:128]
    pixels = content[128:] if generator.random() < 0.5 else b""
    return _make_npz(_make_header(mutate_bytes(header, generator)[:60_000]) + pixels)


def _make_header(text: bytes, version: bytes = b"\1\0") -> bytes:
    form = "<H" if version == b"\1\0" else "<I"
    return b"\x93NUMPY" + version + struct.pack(form, len(text)) + text


def _make_npz(*contents: bytes, name: str = "a.npy") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"{number or ''}{name}", content)
    return buffer.getvalue()


def craft_arrays(generator: random.Random) -> Iterator[HostileFile]:
    """Yield arrays with odd shapes, types and versions."""
    yield from yield_special_files("a.npz")
    yield make_long_link("a.npz")
    shapes = ("()", "(1,)", "(0, 1, 1, 3)", "(-1, 1, 1, 3)", "(40, 1, 1, 3)", "(True, 1, 1, 3)")
    shapes += ("(200001, 1, 1, 3)", "(2**62, 1, 1, 3)", f"({10**400}, 1, 1, 3)", "(40, 2, 2, 4)")
    shapes += ("(40, 0.5, 1, 3)", "(40, None, 1, 3)", "[40, 1, 1, 3]", "(1,) * 99", "40", "'40'")
    shapes += (f"({','.join('1' * 3000)})", f"({9**9}, {9**9}, 1, 3)", "(1, 40000, 40000, 3)")
    for shape in shapes:
        text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n"
        yield make_file(
            "a.npz", f"the shape {shape[:40]}", _make_npz(_make_header(text.encode()) + bytes(120))
        )
    types = (
        "'O'",
        "'<f8'",
        "'|V99999999999'",
        "[('a', 'u1')]",
        "'u1,u1'",
        "None",
        "'\\x1b[2J'",
        "'|S0'",
    )
    for descr in (
        *types,
        "[" * 90 + "]" * 90,
        "()",
        "{}",
        "'M8[\\x1b]'",
        "'>u1'",
        "1e999",
        "'(2,)u1'",
    ):
        text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (40, 1, 1, 3)}}\n"
        yield make_file(
            "a.npz", f"the type {descr[:40]}", _make_npz(_make_header(text.encode()) + bytes(120))
        )
    for text in (
        b"",
        b"(" * 9000,
        b"{" * 9000,
        b"'" * 3,
        b"\xff" * 9,
        b"{}",
        b"1" * 9999,
        b"-" * 9999,
    ):
        for version in (b"\1\0", b"\2\0", b"\3\0", b"\xff\xff"):
            data = _make_npz(_make_header(text, version))
            yield make_file("a.npz", f"the header {text[:9]!r} of version {version!r}", data)
    zeros = _make_header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 2**28, 3)}\n")
    yield make_file("a.npz", "two arrays", _make_npz(zeros, zeros))
    yield _make_sparse("a row of 2^28 pixels", 2**28 * 3)
    yield make_file(
        "a.npz", "an entry with a hostile name", _make_npz(zeros, name=HOSTILE_TEXT[:8])
    )
    offsets = _make_npz(zeros)
    for place in (16, 20, 24, 42):
        start = offsets.index(b"PK\1\2")
        for value in (b"\xff" * 4, b"\xff\xff\xff\x7f", bytes(4)):
            changed = offsets[: start + place] + value + offsets[start + place + 4 :]
            yield make_file("a.npz", f"{value!r} at {place} of the list of entries", changed)


def _make_sparse(description: str, size: int) -> HostileFile:
    """Make an .npz file that is not compressed, of an array of zeros."""

    def write(folder: Path) -> Path:
        path = folder / "a.npz"
        text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 268435456, 3)}\n"
        with zipfile.ZipFile(path, "w") as archive, archive.open("a.npy", "w") as entry:
            entry.write(_make_header(text))
            for _ in range(size // 2**24):
                entry.write(bytes(2**24))
        return path

    return HostileFile(description, write)


LOADERS = (
    Loader("calibration: lists", calibrate_with_list, make_list_samples, craft_lists),
    Loader("int8: validation lists", evaluate_list, make_labeled_samples, craft_labeled_lists),
    Loader(
        "calibration: arrays",
        calibrate,
        make_array_samples,
        craft_arrays,
        mutate_array,
        memory_bytes=2 * GIB,
    ),
)
