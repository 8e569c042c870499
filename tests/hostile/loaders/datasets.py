"""Hostile datasets: class folders, tar files, truth files, and ImageNet's development kit."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import random
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.helpers.random_images import make_random_image, save_random_images
from tests.hostile.hostile_files import GIB, HostileFile, Loader, make_file
from tests.hostile.odd_files import yield_special_files
from tests.hostile.small_artifact import WNIDS, write_small_artifact
from tinyvit.bench.commands import accuracy

_IMAGES = 6
_NAMES = ("\x1b[2J", "a\nb", "\u202ea", "a\udcff", "-rf", "\r=1+1", "e\u0301", "\u0f73" * 80, " ", "~")
"""Names of folders and files that are unusual or act on terminals."""


def measure_accuracy(path: Path) -> None:
    """Run `tinyvit-bench accuracy` on a folder or a tar file."""
    _run_command("--data", os.fspath(path))


def measure_with_truth(path: Path) -> None:
    """Run `tinyvit-bench accuracy` on a folder of images with a truth file."""
    folder = save_random_images(Path.cwd() / "images", range(_IMAGES))
    _run_command("--data", os.fspath(folder), "--truth", os.fspath(path))


def _run_command(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    accuracy.add_arguments(parser)
    artifact = os.fspath(write_small_artifact())
    accuracy.run(parser.parse_args([artifact, "--only-known-classes", *arguments]))


def make_folder_samples(folder: Path) -> Sequence[Path]:
    """Make class folders, and folders of splits."""
    for name in ("classes", "splits/train", "splits/val"):
        for wnid in WNIDS[:2]:
            save_random_images(folder / name / wnid, range(2))
    (folder / "classes" / WNIDS[0] / "readme.txt").write_text("text")
    return folder / "classes", folder / "splits"


def craft_folders(generator: random.Random) -> Iterator[HostileFile]:
    """Yield class folders with links, special files, odd names, and very many entries."""
    targets = ("/", "/proc", "/sys", "/dev", "..", ".", "nothing", "link", "/proc/self/fd", "x" * 300)
    for target in targets:
        for name in ("link", "1.jpg", WNIDS[2], f"{WNIDS[0]}/link", f"{WNIDS[0]}/1.jpg"):
            yield _make_folder(
                f"a link {name} to {target[:20]}",
                lambda folder, name=name, target=target: (folder / name).symlink_to(target),
            )
    for target in ("/dev/zero", "/dev/tty", "/proc/kmsg", "/etc/passwd", "/proc/self/mem"):
        yield _make_folder(
            f"an image that is a link to {target}",
            lambda folder, target=target: (folder / WNIDS[0] / "a.jpg").symlink_to(target),
        )
    yield _make_folder("a pipe", lambda folder: os.mkfifo(folder / WNIDS[0] / "a.jpg"))
    yield _make_folder("a folder a.jpg", lambda folder: (folder / WNIDS[0] / "a.jpg").mkdir())
    yield _make_folder("1,000 levels", lambda folder: (folder / ("a/" * 1000)).mkdir(parents=True))
    yield _make_folder("a sparse image of 10 GB", _make_sparse_image)
    yield _make_folder("50,000 files", lambda folder: _touch_many(folder / WNIDS[0], "{}.jpg"))
    yield _make_folder("50,000 classes", lambda folder: _touch_many(folder, "{}", is_folder=True))
    for name in _NAMES:
        for place in (name, f"{WNIDS[0]}/{name}.png", f"{name}/1.png", f"{name}/{name}.png"):
            yield _make_folder(
                f"the name {place!a:.60}",
                lambda folder, place=place: _save_image(folder / place),
            )


def _make_folder(description: str, change: Callable[[Path], object]) -> HostileFile:
    """Make a hostile file of good class folders and a change of them."""

    def write(folder: Path) -> Path:
        data = folder / "data"
        for wnid in WNIDS[:2]:
            save_random_images(data / wnid, range(2))
        change(data)
        return data

    return HostileFile(description, write)


def _make_sparse_image(folder: Path) -> None:
    path = folder / WNIDS[0] / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    os.truncate(path, 10 * GIB)


def _touch_many(folder: Path, pattern: str, is_folder: bool = False) -> None:
    for number in range(50_000):
        path = folder / pattern.format(number)
        path.mkdir() if is_folder else path.touch()


def _save_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    make_random_image(0).save(path, "PNG")


@cache
def _encode_image() -> bytes:
    buffer = io.BytesIO()
    make_random_image(0).save(buffer, "PNG")
    return buffer.getvalue()


def make_tar_samples(folder: Path) -> Sequence[Path]:
    """Make tar files in every format, with links."""
    samples = []
    for number, kind in enumerate((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        path = folder / f"{number}.tar"
        names = [f"val/{wnid}/{'n' * 90 * number}{index}.png" for wnid in WNIDS[:2] for index in (1, 2)]
        path.write_bytes(_make_tar(names, kind))
        samples.append(path)
    return samples


def _make_tar(names: Sequence[str], kind: int = tarfile.PAX_FORMAT, **fields: object) -> bytes:
    """Return a tar file of an image with several names; `fields` are those of the last member."""
    buffer, image = io.BytesIO(), _encode_image()
    with tarfile.open(fileobj=buffer, mode="w", format=kind, errors="surrogateescape") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(image)
            if name == names[-1]:
                for key, value in fields.items():
                    setattr(member, key, value)
            archive.addfile(member, io.BytesIO(image))
    return buffer.getvalue()


def mutate_tar(data: bytes, generator: random.Random) -> bytes:
    """Change a field of a header, with a right checksum."""
    places = [place for place in range(0, len(data), 512) if data[place + 257 : place + 262] == b"ustar"]
    place = generator.choice(places or [0])
    header = bytearray(data[place : place + 512].ljust(512, b"\0"))
    offset, width = generator.choice(
        ((0, 100), (124, 12), (124, 12), (136, 12), (156, 1), (156, 1), (157, 100), (257, 8), (345, 155))
    )
    texts = (b"\0" * width, b"7" * width, b"\xff" * width, b"\x80" + b"\0" * (width - 1), b"../" * 50)
    texts += (b"1gLKxSVDM"[generator.randrange(9) :][:1], generator.randbytes(width), b"\x1b[2J")
    header[offset : offset + width] = generator.choice(texts)[:width].ljust(width, b"\0")
    checksum = sum(header[:148]) + sum(header[156:]) + 8 * ord(" ")
    header[148:156] = b"%06o\0 " % checksum
    return data[:place] + bytes(header) + data[place + 512 :]


def craft_tars(generator: random.Random) -> Iterator[HostileFile]:
    """Yield tar files with odd names, links, sizes and numbers of members."""
    yield from yield_special_files("a.tar")
    good = [f"{wnid}/1.png" for wnid in WNIDS[:3]]
    for name in (*_NAMES, "a/" * 30_000, "n" * 60_000, "\u0f73" * 15_000, "/abs", "../../x"):
        for place in (f"{WNIDS[0]}/{name}.png", f"{name}/1.png", f"{name}.png"):
            data = _make_tar([*good, place])
            yield make_file("a.tar", f"the name {place!a:.60}", data)
    for kind in (b"1", b"2", b"3", b"4", b"6", b"7", b"S", b"x", b"g", b"L", b"K", b"D", b"\xff"):
        for target in ("", "/dev/zero", good[0], "a.png", "../" * 3000):
            fields = {"type": kind, "linkname": target}
            data = _make_tar([*good, "a.png"], tarfile.GNU_FORMAT, **fields)
            yield make_file("a.tar", f"a member of type {kind!r} with link {target[:20]!r}", data)
    keys = ("size", "path", "linkpath", "mtime", "uid", "hdrcharset", "GNU.sparse.map", "GNU.sparse.name")
    for key in (*keys, "GNU.sparse.major", "GNU.sparse.size", "GNU.sparse.realsize", "GNU.sparse.offset"):
        for value in ("", "-1", "9" * 5000, "nan", "1,2,3", HOSTILE_TEXT.encode("ascii", "replace").decode()):
            data = _make_tar([*good, "a.png"], pax_headers={key: value})
            yield make_file("a.tar", f"the extended header {key}={value[:10]!a}", data)
    yield make_file("a.tar", "20,000 members of one name", _make_tar(["a/1.png"] * 20_000))
    links = [f"a/{number}.png" for number in range(5000)]
    yield make_file("a.tar", "a chain of links", _make_tar(links, type=b"2", linkname="0.png"))


def make_truth_samples(folder: Path) -> Sequence[Path]:
    """Make a truth file of each kind."""
    rows = [(f"{number:03}.png", WNIDS[number]) for number in range(_IMAGES)]
    texts = {
        "a.csv": "ImageId,PredictionString\n" + "".join(f"{a},{b} 1 2 3 4\n" for a, b in rows),
        "b.csv": "sep=;\n" + "".join(f"images/{a};{b}\n" for a, b in rows),
        "c.tsv": "".join(f'"{a}"\t"{b}"\n' for a, b in rows),
        "d.txt": "".join(f"{a} {number}\n" for number, (a, b) in enumerate(rows)),
        "e.json": json.dumps(dict(rows)),
        "f.json": json.dumps([[number] for number in range(_IMAGES)]),
        "g.json": json.dumps([{"file_name": a, "label": b} for a, b in rows]),
        "h.jsonl": "\n".join(json.dumps({"file_name": a, "label": b}) for a, b in rows),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


def craft_truths(generator: random.Random) -> Iterator[HostileFile]:
    """Yield truth files with odd cells, very many rows, and deep nesting."""
    yield from yield_special_files("a.csv")
    cells = (*_NAMES, "", '"', "\xa0", "\u2003", "#", "#7", "9" * 5000, "\u0661", "NaN", "n", "x" * 200_000)
    cells += ("\u0f73" * 100_000, "a\u0315\u0300" * 50_000, "/" * 50_000, "[" * 100_000, HOSTILE_TEXT)
    for cell in cells:
        data = cell.encode("utf-8", "surrogatepass")
        for row in (b"%s,1", b"000.png,%s", b"%s;%s", b"%s", b"000.png %s", b"image,%s\n000.png,1"):
            rows = row.replace(b"%s", data) + b"\n001.png,1\n"
            suffix = generator.choice((".csv", ".txt", ".tsv"))
            yield make_file(f"a{suffix}", f"the cell {cell!a:.30} in {row!r}", rows)
        for value in ({cell: 1}, {"000.png": cell}, [{"image": cell, "label": cell}], [cell], cell):
            yield make_file("a.json", f"{cell!a:.30} in JSON", json.dumps(value).encode())
    for name, make in _LARGE_TRUTHS.items():
        yield _make_large(name, make)


_LARGE_TRUTHS: dict[str, Callable[[], bytes]] = {
    "rows.csv": lambda: b"a,1\n" * 16_000_000,
    "same.csv": lambda: b"000.png,1\n" * 1_400_000,
    "cells.csv": lambda: b"," * 64_000_000,
    "breaks.txt": lambda: b"\x0b" * 64_000_000,
    "stems.csv": lambda: b"".join(b"%d/000.png,1\n" % number for number in range(1_000_000)),
    "lists.json": lambda: b"[" + b"[]," * 20_000_000 + b"[]]",
    "numbers.json": lambda: b"[[" + b"0," * 30_000_000 + b"0]]",
    "maps.json": lambda: b"[" + b'{"":0},' * 8_000_000 + b"{}]",
    "deep.json": lambda: b"[" * 10_000_000,
    "deep.jsonl": lambda: b'{"a":' * 10_000_000,
    "lines.jsonl": lambda: b"0\n" * 30_000_000,
    "integer.json": lambda: b"[[" + b"9" * 10_000_000 + b"]]",
    "large.csv": lambda: bytes(65 * 2**20),
}


def _make_large(name: str, make: Callable[[], bytes]) -> HostileFile:
    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(make())
        return path

    return HostileFile(f"large: {name}", write)


def make_devkit_samples(folder: Path) -> Sequence[Path]:
    """Make ImageNet's development kit with a small table, compressed and not."""
    pytest.importorskip("scipy", reason="reads the table")
    content = _make_devkit(_make_table(), b"1\n2\n3\n" * 2)
    (folder / "a.tar.gz").write_bytes(gzip.compress(content))
    (folder / "b.tar.gz").write_bytes(content)
    return folder / "a.tar.gz", folder / "b.tar.gz"


@cache
def _make_table() -> bytes:
    import numpy as np
    from scipy.io import savemat

    rows = np.zeros(3, [("ILSVRC2012_ID", object), ("WNID", object)])
    for index in range(3):
        rows[index] = (index + 1, WNIDS[index])
    buffer = io.BytesIO()
    savemat(buffer, {"synsets": rows})
    return buffer.getvalue()


def _make_devkit(table: bytes, numbers: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (
            ("meta.mat", table),
            ("ILSVRC2012_validation_ground_truth.txt", numbers),
        ):
            member = tarfile.TarInfo(f"devkit/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def craft_devkits(generator: random.Random) -> Iterator[HostileFile]:
    """Yield kits with bombs, odd numbers, and changed tables."""
    yield from yield_special_files("a.tar.gz")
    for numbers in (b"", b"0", b"-1", b"\xff", b"9" * 10_000, b"1 2 3 4 5 \x1b[2J", b"1\0" * 99):
        data = gzip.compress(_make_devkit(_make_table(), numbers))
        yield make_file("a.tar.gz", f"the numbers {numbers[:20]!r}", data)
    for field in range(128, min(len(_make_table()), 400), 8):
        table = bytearray(_make_table())
        table[field : field + 4] = generator.choice((b"\xff" * 4, b"\xff\xff\xff\x7f", bytes(4)))
        data = gzip.compress(_make_devkit(bytes(table), b"1\n2\n3\n" * 2))
        yield make_file("a.tar.gz", f"another number at {field} of the table", data)
    yield _make_large("many.tar.gz", lambda: gzip.compress(_make_devkit(b"", b"11 " * 20_000_000), 1))
    yield _make_large("parts.tar.gz", lambda: gzip.compress(b"") * 3_000_000)
    yield _make_large("name.tar.gz", lambda: b"\x1f\x8b\x08\x08" + b"n" * 60_000_000)
    yield _make_large("zeros.tar.gz", lambda: gzip.compress(bytes(2**28), 1))


LOADERS = (
    Loader("accuracy: class folders", measure_accuracy, make_folder_samples, craft_folders),
    Loader("accuracy: tar files", measure_accuracy, make_tar_samples, craft_tars, mutate_tar),
    Loader("accuracy: truth files", measure_with_truth, make_truth_samples, craft_truths),
    Loader(
        "accuracy: development kits",
        measure_with_truth,
        make_devkit_samples,
        craft_devkits,
        memory_bytes=2 * GIB,
    ),
)
