"""Hostile truth files: tables, JSON, and ImageNet's development kit."""

from __future__ import annotations

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
from tests.helpers.random_images import save_random_images
from tests.hostile.hostile_files import GIB, HostileFile, Loader, make_file, make_lazy_file
from tests.hostile.loaders.datasets import ODD_NAMES, run_accuracy
from tests.hostile.small_artifact import WNIDS
from tests.hostile.special_files import make_long_link, yield_special_files

_IMAGES = 6


def measure_with_truth(path: Path) -> None:
    """Run `tinyvit-bench accuracy` on a folder of images with a truth file."""
    folder = save_random_images(Path.cwd() / "images", range(_IMAGES))
    run_accuracy("--data", os.fspath(folder), "--truth", os.fspath(path))


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
    yield make_long_link("a.csv")
    cells = (
        *ODD_NAMES,
        "",
        '"',
        "\xa0",
        "\u2003",
        "#",
        "#7",
        "9" * 5000,
        "\u0661",
        "NaN",
        "n",
        "x" * 200_000,
    )
    cells += (
        "\u0f73" * 100_000,
        "a\u0315\u0300" * 50_000,
        "/" * 50_000,
        "[" * 100_000,
        HOSTILE_TEXT,
    )
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
    return make_lazy_file(name, f"large: {name}", make)


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
    yield make_long_link("a.tar.gz")
    for numbers in (b"", b"0", b"-1", b"\xff", b"9" * 10_000, b"1 2 3 4 5 \x1b[2J", b"1\0" * 99):
        data = gzip.compress(_make_devkit(_make_table(), numbers))
        yield make_file("a.tar.gz", f"the numbers {numbers[:20]!r}", data)
    for field in range(128, min(len(_make_table()), 400), 8):
        table = bytearray(_make_table())
        table[field : field + 4] = generator.choice((b"\xff" * 4, b"\xff\xff\xff\x7f", bytes(4)))
        data = gzip.compress(_make_devkit(bytes(table), b"1\n2\n3\n" * 2))
        yield make_file("a.tar.gz", f"another number at {field} of the table", data)
    yield _make_large(
        "many.tar.gz", lambda: gzip.compress(_make_devkit(b"", b"11 " * 20_000_000), 1)
    )
    yield _make_large("parts.tar.gz", lambda: gzip.compress(b"") * 3_000_000)
    yield _make_large("name.tar.gz", lambda: b"\x1f\x8b\x08\x08" + b"n" * 60_000_000)
    yield _make_large("zeros.tar.gz", lambda: gzip.compress(bytes(2**28), 1))


LOADERS = (
    Loader("accuracy: truth files", measure_with_truth, make_truth_samples, craft_truths),
    Loader(
        "accuracy: development kits",
        measure_with_truth,
        make_devkit_samples,
        craft_devkits,
        memory_bytes=2 * GIB,
    ),
)
