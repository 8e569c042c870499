"""The choice of images and their hash do not depend on how many are kept in memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from tests.helpers.random_images import make_random_image, save_random_images
from tinyvit.preprocess import Preprocess
from tinyvit.quant.images import pixel_source
from tinyvit.quant.images.calibration_data import read_calibration_set, read_calibration_split
from tinyvit.quant.images.distinct_images import list_in_order, read_distinct_images

PREPROCESS = Preprocess(16, 18)
IMAGE_BYTES = 16 * 16 * 3


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path) -> Path:
    """Images of two folders, with copies and an unreadable file."""
    save_random_images(tmp_path / "in" / "a", range(60))
    folder = save_random_images(tmp_path / "in" / "b", range(100, 140))
    for number in range(8):
        make_random_image(number).save(folder / f"copy{number}.png")
    (folder / "broken.png").write_bytes(b"x")
    return tmp_path / "in"


@pytest.mark.parametrize("cached", [0, 1, 35, 64])
def test_the_set_is_that_of_images_in_memory(
    folder: Path, cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_calibration_set(folder, PREPROCESS, 90)
    monkeypatch.setattr(pixel_source, "MAX_CACHED_BYTES", cached * IMAGE_BYTES)
    images = read_calibration_set(folder, PREPROCESS, 90)
    assert (images.sha256, images.source, images.skipped) == (
        expected.sha256,
        expected.source,
        expected.skipped,
    )
    assert np.array_equal(images.pixels[:], expected.pixels[:])


@pytest.mark.parametrize("cached", [0, 35, 64, 95])
@pytest.mark.parametrize(("count", "max_held_out"), [(40, 20), (70, 50), (32, 1000)])
def test_the_held_out_images_are_those_of_images_in_memory(
    folder: Path, cached: int, count: int, max_held_out: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, expected_held_out = read_calibration_split(folder, PREPROCESS, count, max_held_out)
    monkeypatch.setattr(pixel_source, "MAX_CACHED_BYTES", cached * IMAGE_BYTES)
    images, held_out = read_calibration_split(folder, PREPROCESS, count, max_held_out)
    assert (images.sha256, images.source) == (expected.sha256, expected.source)
    assert np.array_equal(images.pixels[:], expected.pixels[:])
    assert np.array_equal(held_out, expected_held_out)


def test_the_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pixels would take 3 MB, of which 0.2 MB are kept; reading takes a few images more."""
    preprocess = Preprocess(64, 64)
    image_bytes = 64 * 64 * 3
    count = 240
    folder = save_random_images(tmp_path, range(count), size=(64, 64))
    listing = list_in_order(folder, seed=0)
    monkeypatch.setattr(pixel_source, "MAX_CACHED_BYTES", 16 * image_bytes)

    def read_all() -> None:
        images = read_distinct_images(folder, listing, preprocess, count, max_held_out=16)
        _, held_out = images.hold_out(16)
        assert len(held_out) == 16
        for start in range(0, count - 16, 8):
            images.pixels[start : start + 8]

    read_all()  # loads what is loaded at the first use
    tracemalloc.start()
    try:
        read_all()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < count * image_bytes / 2
