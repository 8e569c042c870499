"""Images are loaded by worker processes that are not forked, as on Windows and macOS."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tinyvit.data.class_folders import read_image_folder
from tinyvit.distill.augmentation.settings import Augmentation
from tinyvit.distill.logits.store import Store
from tinyvit.distill.training.batches.data_loader import TrainingBatch, TrainingData, load_batches

BATCHES = [[0, 5, 7], [11, 2, 3]]


@pytest.fixture
def spawned_workers() -> Iterator[None]:
    """Let multiprocessing start new Python processes in the test."""
    method = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(method, force=True)


def load(folder: Path, store: Store | None, workers: int) -> list[TrainingBatch]:
    images = read_image_folder(folder)
    data = TrainingData(images, images.class_indices, store, Augmentation(), seed=3, size=32)
    return list(load_batches(data, 1, BATCHES, workers))


@pytest.mark.slow
@pytest.mark.parametrize("has_store", [False, True])
def test_spawned_workers_load_the_same_batches(
    has_store: bool, image_folder: Path, store: Store, spawned_workers: None
) -> None:
    chosen_store = store if has_store else None
    expected = load(image_folder, chosen_store, workers=0)
    batches = load(image_folder, chosen_store, workers=1)
    assert len(batches) == len(expected) == 2
    for batch, other in zip(batches, expected):
        assert torch.equal(batch.pixels, other.pixels)
        assert batch.labels is not None
        assert other.labels is not None
        assert torch.equal(batch.labels.classes, other.labels.classes)
        if has_store:
            assert batch.teacher is not None
            assert other.teacher is not None
            assert torch.equal(batch.teacher.probabilities, other.teacher.probabilities)
