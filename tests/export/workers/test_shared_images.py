"""Worker processes read from files the images and outputs that the export has written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tinyvit.export.workers.shared_images import SharedImages, write_shared_images
from tinyvit.quant.accuracy_budget import ArtifactOutputs

COUNTS = (3, 32, 5)
"""Numbers of images in the batches that are written, 40 in all; one image was unreadable."""


def _make_pixels() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (40, 6, 4, 3), dtype=np.uint8)


def _write(folder: Path, classes: npt.NDArray[np.int64] | None) -> SharedImages:
    pixels = _make_pixels()

    def make_batches() -> Iterator[tuple[Any, Any]]:
        start = 0
        for count in COUNTS:
            yield pixels[start : start + count], None
            start += count

    logits = np.arange(80, dtype=np.float32).reshape(40, 2)
    return write_shared_images(
        folder, make_batches, 41, ArtifactOutputs((logits,), classes, "logits")
    )


@pytest.mark.parametrize("classes", [None, np.arange(40)])
def test_images_and_outputs_are_read_as_they_were_written(
    classes: npt.NDArray[np.int64] | None, tmp_path: Path
) -> None:
    images = _write(tmp_path, classes)
    assert (images.listed_count, images.shape) == (41, (40, 6, 4, 3))
    for _ in range(2):  # Each call begins anew.
        batches = list(images.batches())
        np.testing.assert_array_equal(
            np.concatenate([batch for batch, _ in batches]), _make_pixels()
        )
        if classes is None:
            assert all(batch_classes is None for _, batch_classes in batches)
        else:
            read = np.concatenate([numbers for _, numbers in batches if numbers is not None])
            np.testing.assert_array_equal(read, classes)
    outputs = images.read_float32_outputs()
    np.testing.assert_array_equal(outputs.outputs[0], np.arange(80).reshape(40, 2))
    assert (outputs.correct_classes is None) == (classes is None)


def test_a_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    images = _write(tmp_path, None)
    (file,) = tmp_path.glob("pixels*")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(OSError, match="shorter"):
        list(images.batches())
