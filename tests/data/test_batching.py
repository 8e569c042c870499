"""A fixed batch is filled up with the last image, and the padding is cut off."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tinyvit.data.batching import pad_batch, run_in_batches
from tinyvit.errors import ArtifactError


@pytest.mark.parametrize(
    ("count", "batch", "expected"),
    [(1, 1, [0]), (3, 4, [0, 1, 2, 2]), (4, 4, [0, 1, 2, 3]), (5, 4, [0, 1, 2, 3, 4, 4, 4, 4])],
)
def test_padding_repeats_the_last_image(count: int, batch: int, expected: list[int]) -> None:
    images = np.arange(count, dtype=np.uint8).reshape(count, 1, 1)
    padded = pad_batch(images, batch)
    assert padded.ravel().tolist() == expected
    assert padded.dtype == np.uint8
    assert padded.shape[1:] == (1, 1)
    assert (padded is images) == (len(expected) == count)


@pytest.mark.parametrize(
    ("batch", "sizes"), [(1, [1] * 5), (2, [2, 2, 2]), (8, [8]), ("N", [5]), (None, [5])]
)
def test_any_number_of_images_is_run(batch: int | str | None, sizes: list[int]) -> None:
    seen: list[int] = []

    def run(images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        seen.append(len(images))
        return images[:, :2] * np.float32(10)

    images = np.arange(15, dtype=np.float32).reshape(5, 3)
    assert np.array_equal(run_in_batches(run, images, batch), images[:, :2] * 10)
    assert seen == sizes


@pytest.mark.parametrize("batch", [2, "N"])
def test_a_network_that_joins_images_is_refused(batch: int | str) -> None:
    images = np.zeros((4, 3), np.float32)
    with pytest.raises(ArtifactError, match=r"returns 1 rows of output for [24] images"):
        run_in_batches(lambda inputs: inputs[:1], images, batch)
