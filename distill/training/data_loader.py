"""Loads training batches in worker processes.

A sample is a view (augmented version of an image), the class of the image, and the teacher outputs
that a store contains for this view.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from tinyvit.data.class_folders import ImageFolder
from tinyvit.distill.augmentation.settings import Augmentation
from tinyvit.distill.augmentation.views import ViewSource, compute_view_seed, make_view
from tinyvit.distill.logits.store import Store
from tinyvit.errors import TinyViTError

Sample = dict[str, npt.NDArray[np.generic] | np.generic]


@dataclass(frozen=True)
class TrainingBatch:
    """The views, labels and teacher outputs of one training step.

    Attributes:
        pixels: Views, uint8 (B, S, S, 3).
        classes: Class of each view's image, int64 (B,); None without labels.
        partner_classes: Class of the image that was mixed in, int64 (B,); None without labels.
        own_fractions: Fraction of each view that comes from its own image, float32 (B,); None
            without labels.
        teacher_classes: The teacher's top classes, int64 (B, K); None without a store.
        teacher_probabilities: Their probabilities, float32 (B, K); None without a store.
    """

    pixels: Tensor
    classes: Tensor | None = None
    partner_classes: Tensor | None = None
    own_fractions: Tensor | None = None
    teacher_classes: Tensor | None = None
    teacher_probabilities: Tensor | None = None


@dataclass(frozen=True)
class TrainingData:
    """The images of a training run, with their classes and teacher outputs.

    Attributes:
        images: The images.
        class_indices: Index of each image's class among those of the student, int64 (N,); None if
            it is not known.
        store: Saved teacher outputs; None trains from class labels only. A store determines the
            augmentation and the seeds of the views.
        augmentation: The augmentation; not used with a store.
        seed: Seed of the views; not used with a store.
        size: Side of the views in pixels.
    """

    images: ImageFolder
    class_indices: npt.NDArray[np.int64] | None
    store: Store | None
    augmentation: Augmentation
    seed: int
    size: int

    @property
    def views_per_image(self) -> int:
        """Number of views of each image in an epoch."""
        return self.store.header.views_per_image if self.store else 1

    @property
    def view_source(self) -> ViewSource:
        """The images and the settings from which views of them are made."""
        augmentation = self.store.header.augmentation if self.store else self.augmentation
        return ViewSource(self.images.open, len(self.images), self.size, augmentation)

    def __len__(self) -> int:
        return len(self.images) * self.views_per_image


class _EpochDataset(Dataset["Sample | TinyViTError"]):
    """The samples of one epoch.

    Errors are returned instead of raised, because torch raises a copy of a worker's exception
    that lacks its attributes. `load_batches` raises the original.
    """

    def __init__(self, data: TrainingData, epoch: int) -> None:
        self._data = data
        self._epoch = epoch % data.store.epochs if data.store else epoch
        self._records = data.store.read_epoch(self._epoch) if data.store else None

    def __getitem__(self, index: int) -> Sample | TinyViTError:
        try:
            return self._make_sample(int(index))
        except TinyViTError as error:
            return error

    def _make_sample(self, index: int) -> Sample:
        data = self._data
        image, view_number = divmod(index, data.views_per_image)
        sample: Sample = {}
        if data.store is None or self._records is None:
            seed = compute_view_seed(data.seed, self._epoch, data.images.keys[image], view_number)
        else:
            record = data.store.read_record(self._epoch, self._records, index)
            seed = record.seed
            sample["teacher_classes"] = record.classes
            sample["teacher_probabilities"] = record.probabilities
        view = make_view(data.view_source, image, seed)
        sample["pixels"] = view.pixels
        if data.class_indices is not None:
            sample["classes"] = data.class_indices[image]
            sample["partner_classes"] = data.class_indices[view.partner]
            sample["own_fractions"] = np.float32(view.own_fraction)
        return sample


def load_batches(
    data: TrainingData, epoch: int, order: npt.NDArray[np.int64], batch: int, workers: int
) -> Iterator[TrainingBatch]:
    """Load the batches of an epoch.

    Args:
        data: The images.
        epoch: Epoch, from 0. If the store has fewer epochs, they are repeated.
        order: Indices of the samples, int64 (n,). An incomplete last batch is left out.
        batch: Samples per batch.
        workers: Number of worker processes; 0 makes the samples in this process.

    Yields:
        The batches.

    Raises:
        RequestError: A record of the store is damaged.
        ImageError: An image cannot be decoded.
    """
    loader = DataLoader(
        _EpochDataset(data, epoch),
        batch_size=batch,
        sampler=order.tolist(),
        num_workers=workers,
        drop_last=True,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
    )
    for tensors in loader:
        if isinstance(tensors, TinyViTError):
            raise tensors
        yield TrainingBatch(**tensors)


def _collate(samples: list[Sample | TinyViTError]) -> Any:
    """Stack samples, or return the first error."""
    for sample in samples:
        if isinstance(sample, TinyViTError):
            return sample
    return default_collate(samples)


def shuffle_indices(seed: int, epoch: int, samples: int) -> npt.NDArray[np.int64]:
    """Return a random permutation of all samples, which is the same on every machine.

    Args:
        seed: Seed of the run.
        epoch: Epoch, from 0.
        samples: Number of samples.

    Returns:
        Indices, int64 (samples,).
    """
    random = np.random.RandomState((seed * 1_000_003 + epoch) % 2**32)
    return random.permutation(samples).astype(np.int64)


def choose_worker_count() -> int:
    """Return the default number of worker processes: the number of cores less one, 1 to 8."""
    return max(1, min(8, (os.cpu_count() or 1) - 1))
