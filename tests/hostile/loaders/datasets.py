"""Hostile datasets: class folders and tar files."""

from __future__ import annotations

import argparse
import io
import os
import random
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from tests.helpers.hostile_text import HOSTILE_TEXT
from tests.helpers.random_images import make_random_image, save_random_images
from tests.hostile.hostile_files import GIB, HostileFile, Loader, make_file
from tests.hostile.small_artifact import WNIDS, write_small_artifact
from tests.hostile.special_files import (
    make_long_link,
    make_sparse_writer,
    make_special,
    yield_special_files,
)
from tinyvit.bench.commands import accuracy

ODD_NAMES = (
    "\x1b[2J",
    "a\nb",
    "\u202ea",
    "a\udcff",
    "-rf",
    "\r=1+1",
    "e\u0301",
    "\u0f73" * 80,
    " ",
    "~",
)
"""Names of folders and files that are unusual or act on terminals."""


def measure_accuracy(path: Path) -> None:
    """Run `tinyvit-bench accuracy` on a folder or a tar file."""
    run_accuracy("--data", os.fspath(path))


def run_accuracy(*arguments: str) -> None:
    """Run `tinyvit-bench accuracy` with a small artifact and these arguments."""
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
    targets = (
        "/",
        "/proc",
        "/sys",
        "/dev",
        "..",
        ".",
        "nothing",
        "link",
        "/proc/self/fd",
        "x" * 300,
    )
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
    yield _make_folder("a pipe", lambda folder: make_special(folder / WNIDS[0] / "a.jpg", "pipe"))
    yield _make_folder("a folder a.jpg", lambda folder: (folder / WNIDS[0] / "a.jpg").mkdir())
    yield _make_folder("400 levels", lambda folder: (folder / ("a/" * 400)).mkdir(parents=True))
    yield _make_folder("a sparse image of 10 GB", _make_sparse_image)
    yield _make_folder("50,000 files", lambda folder: _touch_many(folder / WNIDS[0], "{}.jpg"))
    yield _make_folder("50,000 classes", lambda folder: _touch_many(folder, "{}", is_folder=True))
    for name in ODD_NAMES:
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
    make_sparse_writer("a.png", 10 * GIB, b"\x89PNG\r\n\x1a\n")(folder / WNIDS[0])


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
        names = [
            f"val/{wnid}/{'n' * 90 * number}{index}.png" for wnid in WNIDS[:2] for index in (1, 2)
        ]
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
    places = [
        place for place in range(0, len(data), 512) if data[place + 257 : place + 262] == b"ustar"
    ]
    place = generator.choice(places or [0])
    header = bytearray(data[place : place + 512].ljust(512, b"\0"))
    offset, width = generator.choice(
        (
            (0, 100),
            (124, 12),
            (124, 12),
            (136, 12),
            (156, 1),
            (156, 1),
            (157, 100),
            (257, 8),
            (345, 155),
        )
    )
    texts = (
        b"\0" * width,
        b"7" * width,
        b"\xff" * width,
        b"\x80" + b"\0" * (width - 1),
        b"../" * 50,
    )
    texts += (b"1gLKxSVDM"[generator.randrange(9) :][:1], generator.randbytes(width), b"\x1b[2J")
    header[offset : offset + width] = generator.choice(texts)[:width].ljust(width, b"\0")
    checksum = sum(header[:148]) + sum(header[156:]) + 8 * ord(" ")
    header[148:156] = b"%06o\0 " % checksum
    return data[:place] + bytes(header) + data[place + 512 :]


def craft_tars(generator: random.Random) -> Iterator[HostileFile]:
    """Yield tar files with odd names, links, sizes and numbers of members."""
    yield from yield_special_files("a.tar")
    yield make_long_link("a.tar")
    good = [f"{wnid}/1.png" for wnid in WNIDS[:3]]
    for name in (*ODD_NAMES, "a/" * 30_000, "n" * 60_000, "\u0f73" * 15_000, "/abs", "../../x"):
        for place in (f"{WNIDS[0]}/{name}.png", f"{name}/1.png", f"{name}.png"):
            data = _make_tar([*good, place])
            yield make_file("a.tar", f"the name {place!a:.60}", data)
    for kind in (b"1", b"2", b"3", b"4", b"6", b"7", b"S", b"x", b"g", b"L", b"K", b"D", b"\xff"):
        for target in ("", "/dev/zero", good[0], "a.png", "../" * 3000):
            fields = {"type": kind, "linkname": target}
            data = _make_tar([*good, "a.png"], tarfile.GNU_FORMAT, **fields)
            yield make_file("a.tar", f"a member of type {kind!r} with link {target[:20]!r}", data)
    keys = (
        "size",
        "path",
        "linkpath",
        "mtime",
        "uid",
        "hdrcharset",
        "GNU.sparse.map",
        "GNU.sparse.name",
    )
    for key in (
        *keys,
        "GNU.sparse.major",
        "GNU.sparse.size",
        "GNU.sparse.realsize",
        "GNU.sparse.offset",
    ):
        for value in (
            "",
            "-1",
            "9" * 5000,
            "nan",
            "1,2,3",
            HOSTILE_TEXT.encode("ascii", "replace").decode(),
        ):
            data = _make_tar([*good, "a.png"], pax_headers={key: value})
            yield make_file("a.tar", f"the extended header {key}={value[:10]!a}", data)
    yield make_file("a.tar", "20,000 members of one name", _make_tar(["a/1.png"] * 20_000))
    links = [f"a/{number}.png" for number in range(5000)]
    yield make_file("a.tar", "a chain of links", _make_tar(links, type=b"2", linkname="0.png"))


LOADERS = (
    Loader("accuracy: class folders", measure_accuracy, make_folder_samples, craft_folders),
    Loader("accuracy: tar files", measure_accuracy, make_tar_samples, craft_tars, mutate_tar),
)
