"""The functions that return the paths of images are small, because there may be a million."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path

from tinyvit.data.source_getters import make_path_getter


def test_a_path_reader_returns_its_path(tmp_path: Path) -> None:
    assert make_path_getter(tmp_path / "1.jpg")() == tmp_path / "1.jpg"
    get_path = make_path_getter(tmp_path, "a/1.jpg")
    assert pickle.loads(pickle.dumps(get_path))() == tmp_path / "a" / "1.jpg"


def test_a_path_reader_takes_few_bytes() -> None:
    """A data set may have a million images."""
    count = 1000
    keys = [f"a/{index}.jpg" for index in range(count)]
    tracemalloc.start()
    try:
        readers = [make_path_getter("/photos", key) for key in keys]
        used_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(readers) == count
    assert used_bytes < 80 * count
