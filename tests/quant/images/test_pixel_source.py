"""Images that are decoded again are those that were decoded first, and take little memory."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.random_images import make_random_image, save_random_images
from tinyvit.data.calibration_images import CalibrationImage, make_calibration_image
from tinyvit.errors import RequestError
from tinyvit.preprocess import Preprocess
from tinyvit.quant.images import pixel_source
from tinyvit.quant.images.digest_set import compute_digest
from tinyvit.quant.images.image_decoding import decode_images
from tinyvit.quant.images.pixel_source import StreamedPixels

PREPROCESS = Preprocess(16, 16)
IMAGE_BYTES = 16 * 16 * 3
COUNT = 20
CACHED = 4


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path) -> Path:
    """A folder of different images."""
    return save_random_images(tmp_path / "photos", range(COUNT), size=(16, 16))


@pytest.fixture(name="source")
def fixture_source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> StreamedPixels:
    """The images of the folder, of which only the first ones are kept."""
    monkeypatch.setattr(pixel_source, "MAX_CACHED_BYTES", CACHED * IMAGE_BYTES + 1)
    return read(folder)


def read(folder: Path) -> StreamedPixels:
    """Read the images of a folder in the order of their names."""
    files = sorted(folder.iterdir())
    source = StreamedPixels(PREPROCESS, len(files))
    for file in files:
        image = make_calibration_image(file, folder)
        pixels = PREPROCESS.resize_and_crop(image_of(image))
        source.append(image, pixels, compute_digest(pixels))
    return source


def image_of(image: CalibrationImage) -> object:
    """Open the file of an image."""
    from tinyvit.images.decoding import open_image

    return open_image(image.get_source())


def expected_pixels() -> np.ndarray:
    """The pixels of all images."""
    images = [PREPROCESS.resize_and_crop(make_random_image(i, (16, 16))) for i in range(COUNT)]
    return np.stack(images)


def test_slices_are_those_of_an_array(source: StreamedPixels) -> None:
    expected = expected_pixels()
    assert (len(source), source.shape) == (COUNT, expected.shape)
    slices = [slice(0, 3), slice(2, 7), slice(7, 12), slice(12, COUNT + 5), slice(0, 8)]
    slices += [slice(None), slice(1, None, 5), slice(COUNT, None), slice(9, 10), slice(5, 6)]
    for part in slices:
        assert source[part].dtype == np.uint8
        assert np.array_equal(source[part], expected[part]), part


def test_images_that_fit_are_not_decoded_again(folder: Path) -> None:
    source = read(folder)
    for file in folder.iterdir():
        file.unlink()
    assert np.array_equal(source[:], expected_pixels())


def test_one_pass_decodes_each_further_image_once(
    source: StreamedPixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = 0
    decoded = 0

    def count_images(*arguments: object) -> Iterator[object]:
        nonlocal starts, decoded
        starts += 1
        for image in decode_images(*arguments):  # type: ignore[arg-type]
            decoded += 1
            yield image

    monkeypatch.setattr(pixel_source, "decode_images", count_images)
    for start in range(0, COUNT, 3):
        source[start : start + 3]
    assert (starts, decoded) == (1, COUNT - CACHED)


def test_the_threads_end_after_the_last_image(source: StreamedPixels) -> None:
    source[CACHED : CACHED + 2]
    assert count_decoding_threads() > 0
    source[CACHED + 2 :]
    assert count_decoding_threads() == 0


def count_decoding_threads() -> int:
    """Return the number of threads that decode images."""
    return sum(thread.name.startswith("tinyvit-decode") for thread in threading.enumerate())


def test_an_image_that_changed_is_an_error(folder: Path, source: StreamedPixels) -> None:
    make_random_image(999, (16, 16)).save(folder / "012.png")
    source[:12]
    with pytest.raises(RequestError, match=r"012\.png changed during the calibration \(its pixels"):
        source[12:13]
    with pytest.raises(RequestError, match=r"012\.png changed"):
        source[13:14], source[12:13]


def test_an_image_that_disappeared_is_an_error(folder: Path, source: StreamedPixels) -> None:
    (folder / "012.png").unlink()
    with pytest.raises(RequestError, match=r"012\.png changed .*: repeat the command"):
        source[:]


@pytest.mark.parametrize("count", [0, CACHED - 1, CACHED, CACHED + 5, COUNT])
def test_the_last_images_can_be_removed(source: StreamedPixels, count: int) -> None:
    source.truncate(count)
    assert len(source) == len(source[:]) == count
    assert np.array_equal(source[:], expected_pixels()[:count])


def test_the_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pixels would take 1.5 MB; the source keeps 0.1 MB, and the threads a few images."""
    preprocess = Preprocess(64, 64)
    image_bytes = 64 * 64 * 3
    folder = save_random_images(tmp_path, range(128), size=(64, 64))
    images = [make_calibration_image(file, folder) for file in sorted(folder.iterdir())]
    monkeypatch.setattr(pixel_source, "MAX_CACHED_BYTES", 8 * image_bytes)

    def read_twice() -> None:
        source = StreamedPixels(preprocess, len(images))
        getters = [image.get_source for image in images]
        for image, pixels in zip(images, decode_images(getters, preprocess)):
            assert isinstance(pixels, np.ndarray)
            source.append(image, pixels, compute_digest(pixels))
        for start in range(0, len(images), 8):
            source[start : start + 8]

    read_twice()  # loads what is loaded at the first use
    tracemalloc.start()
    try:
        read_twice()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < len(images) * image_bytes / 2
