"""Loads training batches in worker processes.

A sample is a view (augmented version of an image), the class of its image, and the teacher's saved
predictions for this view. The class or the predictions may be missing, but not both.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
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
from tinyvit.python_process import protect_worker_processes

Sample = dict[str, Any]
"""The fields of a `TrainingBatch` for one view, by name. `labels` and `teacher` are dictionaries of
their own fields; the values are numpy arrays and numbers."""

_SEED_LIMIT = 2**32
"""numpy's RandomState accepts only seeds below this limit."""
_SEED_FACTOR = 1_000_003
"""The seed of an epoch's order is the run's seed times this prime number, plus the epoch. Without
the factor, epoch 1 of a run would have the same order as epoch 0 of a run with the next seed."""
_MAX_DEFAULT_WORKERS = 8
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that stop a command. A terminal or `timeout` sends them to the worker processes too."""


@dataclass(frozen=True)
class BatchLabels:
    """The classes of the B views of a batch, each of which may be mixed from two images.

    Attributes:
        classes: Class of each view's own image, int64 (B,).
        partner_classes: Class of the image that was mixed in, int64 (B,). Without mixing, it is the
            class of the own image.
        own_fractions: Fraction of each view that comes from its own image, 0 to 1, float32 (B,).
    """

    classes: Tensor
    partner_classes: Tensor
    own_fractions: Tensor


@dataclass(frozen=True)
class BatchPredictions:
    """The teacher's predictions for the B views of a batch.

    Attributes:
        classes: The K most probable classes of each view, int64 (B, K).
        probabilities: Probabilities of these classes, float32 (B, K).
    """

    classes: Tensor
    probabilities: Tensor


@dataclass(frozen=True)
class TrainingBatch:
    """The views of one training step in one process, with their classes and predictions.

    Attributes:
        pixels: The views, uint8 (B, S, S, 3).
        labels: The classes of the views; None if they are not known or not needed.
        teacher: The teacher's predictions for the views; None without a store.
    """

    pixels: Tensor
    labels: BatchLabels | None = None
    teacher: BatchPredictions | None = None


@dataclass(frozen=True)
class TrainingData:
    """The images of a training run, with their classes and the teacher's predictions.

    Attributes:
        images: The images.
        class_indices: Index of each image's class among the classes of the student, int64 (N,).
            None if the classes are not known or not needed.
        store: The teacher's saved predictions; None trains from class labels only. A store
            determines the augmentation and the seeds of the views.
        augmentation: The augmentation; not used with a store.
        seed: Seed of the run, from which the seed of every view is computed; not used with a store.
        size: Width and height of the views in pixels.
    """

    images: ImageFolder
    class_indices: npt.NDArray[np.int64] | None
    store: Store | None
    augmentation: Augmentation
    seed: int
    size: int

    @property
    def views_per_image(self) -> int:
        """Return the number of views of each image in an epoch."""
        return self.store.header.views_per_image if self.store else 1

    @property
    def view_source(self) -> ViewSource:
        """Return the images and the settings from which views of them are made."""
        augmentation = self.store.header.augmentation if self.store else self.augmentation
        return ViewSource(self.images.open, len(self.images), self.size, augmentation)

    def __len__(self) -> int:
        """Return the number of views in an epoch."""
        return len(self.images) * self.views_per_image


class _EpochDataset(Dataset["Sample | TinyViTError"]):
    """The samples of one epoch.

    A TinyViTError is returned in place of a sample, and `load_batches` raises it. If the error were
    raised in a worker process, torch would raise a copy without `cause` and `remedy` in the
    training process.
    """

    def __init__(self, data: TrainingData, epoch: int) -> None:
        self._data = data
        # A store with fewer epochs than the run is used repeatedly.
        self._epoch = epoch % data.store.epochs if data.store else epoch
        self._records = data.store.read_epoch(self._epoch) if data.store else None

    def __getitem__(self, index: int) -> Sample | TinyViTError:
        try:
            return self._make_sample(int(index))
        except TinyViTError as error:
            return error

    def _make_sample(self, index: int) -> Sample:
        data = self._data
        image_index, view_number = divmod(index, data.views_per_image)
        sample: Sample = {}
        if data.store is None or self._records is None:
            key = data.images.keys[image_index]
            seed = compute_view_seed(data.seed, self._epoch, key, view_number)
        else:
            record = data.store.read_record(self._epoch, self._records, index)
            seed = record.seed
            sample["teacher"] = {"classes": record.classes, "probabilities": record.probabilities}
        view = make_view(data.view_source, image_index, seed)
        sample["pixels"] = view.pixels
        if data.class_indices is not None:
            sample["labels"] = {
                "classes": data.class_indices[image_index],
                "partner_classes": data.class_indices[view.partner],
                "own_fractions": np.float32(view.own_fraction),
            }
        return sample


def load_batches(
    data: TrainingData, epoch: int, order: npt.NDArray[np.int64], batch: int, workers: int
) -> Iterator[TrainingBatch]:
    """Load the batches of an epoch.

    Args:
        data: The images, with their classes and the teacher's predictions.
        epoch: Epoch, from 0. If the store has fewer epochs than the run, they are used repeatedly.
        order: Indices of the samples to load, in this order, int64 (n,). An incomplete last batch
            is left out.
        batch: Number of samples per batch.
        workers: Number of worker processes; 0 makes the samples in this process.

    Yields:
        The batches.

    Raises:
        RequestError: A file or a record of the store is damaged.
        ImageError: An image cannot be decoded.
    """
    loader = DataLoader(
        _EpochDataset(data, epoch),
        batch_size=batch,
        sampler=order.tolist(),
        num_workers=workers,
        drop_last=True,
        collate_fn=_collate_samples,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_end_silently_on_signals,
    )
    with _block_stop_signals(), protect_worker_processes():
        batches = iter(loader)  # starts the workers
    for batch_or_error in batches:
        if isinstance(batch_or_error, TinyViTError):
            raise batch_or_error
        yield _make_training_batch(batch_or_error)


@contextmanager
def _block_stop_signals() -> Iterator[None]:
    """Delay the stop signals until the end of the block.

    Workers inherit the blocked signals, so none reaches a worker before it can handle it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)


def _end_silently_on_signals(_worker: int) -> None:
    """Let a worker process end without a message when it receives a stop signal.

    The training process receives the signal too, and reports it. If a worker were killed by the
    signal, torch would raise an error in the training process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training process ends its workers
    signal.signal(signal.SIGTERM, _end_worker)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)


def _end_worker(*_: object) -> None:
    os._exit(0)


def _make_training_batch(tensors: dict[str, Any]) -> TrainingBatch:
    labels, teacher = tensors.get("labels"), tensors.get("teacher")
    return TrainingBatch(
        pixels=tensors["pixels"],
        labels=None if labels is None else BatchLabels(**labels),
        teacher=None if teacher is None else BatchPredictions(**teacher),
    )


def _collate_samples(samples: list[Sample | TinyViTError]) -> Any:
    """Stack the values of all samples, or return the first error."""
    for sample in samples:
        if isinstance(sample, TinyViTError):
            return sample
    return default_collate(samples)


def shuffle_indices(seed: int, epoch: int, sample_count: int) -> npt.NDArray[np.int64]:
    """Return a random permutation of all samples, which is the same on every machine.

    Args:
        seed: Seed of the run.
        epoch: Epoch, from 0.
        sample_count: Number of samples.

    Returns:
        Indices of the samples, int64 (sample_count,).
    """
    random = np.random.RandomState((seed * _SEED_FACTOR + epoch) % _SEED_LIMIT)
    return random.permutation(sample_count).astype(np.int64)


def choose_worker_count() -> int:
    """Choose the default number of worker processes, from 1 to 8.

    One core is left to the training process.
    """
    return max(1, min(_MAX_DEFAULT_WORKERS, (os.cpu_count() or 1) - 1))
