"""Hostile parquet files, as the datasets of the Hugging Face Hub contain them."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.random_images import make_random_image
from tests.hostile.hostile_files import GIB, MIB, HostileFile, Loader, make_lazy_file
from tests.hostile.special_files import yield_special_files
from tinyvit.bench.accuracy.hub import read_parquet_dataset

_NAME = "validation-0.parquet"


def read_dataset(path: Path) -> None:
    """List the images of a file, and read all of them."""
    for sample in read_parquet_dataset([path], "test").samples:
        sample.get_source()


def _write(images: list[Any], labels: list[Any], **options: Any) -> bytes:
    """Make a file from the values of its two columns."""
    arrow = pytest.importorskip("pyarrow", reason="reads parquet files")
    from pyarrow import parquet

    output = io.BytesIO()
    table = arrow.table({"image": images, "label": labels})
    parquet.write_table(table, output, **options)
    return output.getvalue()


@cache
def _make_images() -> tuple[dict[str, Any], ...]:
    """Make the values of three images."""
    rows = []
    for seed in range(3):
        data = io.BytesIO()
        make_random_image(seed).save(data, "PNG")
        rows.append({"bytes": data.getvalue(), "path": None})
    return tuple(rows)


def make_samples(folder: Path) -> Sequence[Path]:
    """Make files with and without compression."""
    paths = []
    for method in ("none", "zstd"):
        paths.append(folder / f"{method}.parquet")
        paths[-1].write_bytes(_write([*_make_images()], [0, 1, 2], compression=method))
    return paths


def craft(generator: random.Random) -> Iterator[HostileFile]:
    """Yield files with other types of columns, wrong labels, and packed gigabytes."""
    images = [*_make_images()]
    for labels in (
        ["a", "b", "c"],
        [0.5, 1.0, 2.0],
        [None] * 3,
        [-1, 0, 1],
        [2**62] * 3,
        [[0]] * 3,
    ):
        yield make_lazy_file(
            _NAME, f"labels {labels}", lambda labels=labels: _write(images, labels)
        )
    for values in (["a"] * 3, [{"path": "a"}] * 3, [None] * 3, [[0]] * 3, [{"bytes": "a"}] * 3):
        yield make_lazy_file(
            _NAME, f"images {values}", lambda values=values: _write(values, [0] * 3)
        )
    yield make_lazy_file(_NAME, "a million rows", lambda: _write([None] * 10**6, [0] * 10**6))
    # One value of 16 MiB, to which all rows of a row group refer.
    yield make_lazy_file(_NAME, "1,000 times 16 MiB", lambda: _write_repeated(2**24, 1000))
    yield make_lazy_file(_NAME, "20 times 100 MiB", lambda: _write_repeated(100 * MIB, 20))
    yield from yield_special_files(_NAME, _write(images, [0, 1, 2])[:64])


def _write_repeated(size_bytes: int, count: int) -> bytes:
    """Make a file in which all rows refer to one value."""
    arrow = pytest.importorskip("pyarrow")
    indices = arrow.array([0] * count, arrow.int32())
    value = arrow.array([bytes(size_bytes)], arrow.binary())
    column = arrow.DictionaryArray.from_arrays(indices, value)
    images = arrow.StructArray.from_arrays([column], ["bytes"])
    return _write(images, [0] * count, compression="zstd", dictionary_pagesize_limit=2**30)


LOADERS = (
    Loader(
        "accuracy: parquet files",
        read_dataset,
        make_samples,
        craft,
        memory_bytes=4 * GIB + 512 * MIB,
        cpu_seconds=120,
    ),
)
