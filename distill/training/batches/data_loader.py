"""Loads training batches in worker processes.

A sample is a view (augmented version of an image), the class of its image, and the teacher's saved
predictions for this view. The class or the predictions may be missing, but not both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from tinyvit.data.class_folders import ImageFolder
from tinyvit.distill.augmentation.paper_views import Erasure
from tinyvit.distill.augmentation.settings import Augmentation
from tinyvit.distill.augmentation.views import ViewSource, compute_view_seed, make_view
from tinyvit.distill.logits.seeds import check_seeds
from tinyvit.distill.logits.store import Store
from tinyvit.distill.training.batches.worker_signals import (
    block_stop_signals,
    end_silently_on_signals,
)
from tinyvit.errors import TinyViTError
from tinyvit.processes.python_process import protect_worker_processes

Sample = dict[str, Any]
"""The fields of a `TrainingBatch` for one view, by name. `labels` and `teacher` are dictionaries of
their own fields; the values are numpy arrays and numbers."""

_MAX_DEFAULT_WORKERS = 8


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
class BatchErasures:
    """The boxes of noise over the normalized images of a batch, see `paper_views.Erasure`.

    Attributes:
        boxes: For each of E boxes, the index of the image in the batch, the first row and column,
            the height and the width, int64 (E, 5).
        noise: The noise of all boxes, one after another, float32 (n,).
    """

    boxes: Tensor
    noise: Tensor


@dataclass(frozen=True)
class TrainingBatch:
    """The views of one training step in one process, with their classes and predictions.

    Attributes:
        pixels: The views, uint8 (B, S, S, 3).
        labels: The classes of the views; None if they are not known or not needed.
        teacher: The teacher's predictions for the views; None without a store.
        erasures: The boxes of noise; None if the rules of the augmentation have none.
    """

    pixels: Tensor
    labels: BatchLabels | None = None
    teacher: BatchPredictions | None = None
    erasures: BatchErasures | None = None


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
        selected: Indices in `images.keys` of the T images to train on, int64 (T,); None for all. A
            store has predictions for all images.
    """

    images: ImageFolder
    class_indices: npt.NDArray[np.int64] | None
    store: Store | None
    augmentation: Augmentation
    seed: int
    size: int
    selected: npt.NDArray[np.int64] | None = None

    @property
    def image_count(self) -> int:
        """Return the number of images to train on."""
        return len(self.images) if self.selected is None else len(self.selected)

    @property
    def sample_classes(self) -> npt.NDArray[np.int64] | None:
        """Return the class folder of each sample of an epoch as an index, int64 (n,).

        It is None if images are in no class folder. The indices are those of `images.labels`.
        """
        classes = self.images.class_indices
        if classes is None:
            return None
        if self.selected is not None:
            classes = classes[self.selected]
        return classes.repeat(self.views_per_image)

    @property
    def views_per_image(self) -> int:
        """Return the number of views of each image in an epoch."""
        return self.store.header.views_per_image if self.store else 1

    @property
    def view_source(self) -> ViewSource:
        """Return the images and the settings from which views of them are made.

        Without a store, views are not mixed, see `batch_mixing`.
        """
        if self.store:
            augmentation = self.store.header.augmentation
        else:
            augmentation = replace(self.augmentation, mixup=0.0, cutmix=0.0)
        return ViewSource(self.images.open, len(self.images), self.size, augmentation)

    @property
    def batch_mixing(self) -> Augmentation | None:
        """Return the settings of Mixup and CutMix if whole batches are mixed, otherwise None.

        With a store, single views are mixed, as when the teacher saw them.
        """
        is_mixed = self.augmentation.mixup > 0 or self.augmentation.cutmix > 0
        return self.augmentation if is_mixed and self.store is None else None

    def __len__(self) -> int:
        """Return the number of different samples in an epoch: one for each view of an image."""
        return self.image_count * self.views_per_image

    def describe(self) -> str:
        """Return the numbers of images and classes, and what was skipped, for messages."""
        if self.selected is None:
            return self.images.describe()
        return f"{self.image_count} of the {self.images.describe()}"


class _EpochDataset(Dataset["Sample | TinyViTError"]):
    """The samples of one epoch.

    A TinyViTError is returned in place of a sample, and `load_batches` raises it. If the error were
    raised in a worker process, torch would raise a copy without `cause` and `remedy` in the
    training process.
    """

    def __init__(self, data: TrainingData, epoch: int) -> None:
        self._data, self._view_source = data, data.view_source
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
        use, sample_index = divmod(index, len(data))
        image_index, view_number = divmod(sample_index, data.views_per_image)
        if data.selected is not None:
            image_index = int(data.selected[image_index])
        key = data.images.keys[image_index]
        sample: Sample = {}
        if data.store is None or self._records is None:
            # Without a store, an image that is used several times gives different views.
            view_number += use * data.views_per_image
            seed = compute_view_seed(data.seed, self._epoch, key, view_number)
        else:
            position = image_index * data.views_per_image + view_number
            record = data.store.read_record(self._epoch, self._records, position)
            seed = record.seed
            check_seeds(data.store.header, self._epoch, [(key, view_number, seed)])
            sample["teacher"] = {"classes": record.classes, "probabilities": record.probabilities}
        view = make_view(self._view_source, image_index, seed)
        sample["pixels"] = view.pixels
        if view.erasure is not None:
            sample["erasure"] = view.erasure
        if data.class_indices is not None:
            sample["labels"] = {
                "classes": data.class_indices[image_index],
                "partner_classes": data.class_indices[view.partner],
                "own_fractions": np.float32(view.own_fraction),
            }
        return sample


def load_batches(
    data: TrainingData, epoch: int, batches: list[list[int]], workers: int
) -> Iterator[TrainingBatch]:
    """Load the batches of an epoch.

    Args:
        data: The images, with their classes and the teacher's predictions.
        epoch: Epoch, from 0. If the store has fewer epochs than the run, they are used repeatedly.
        batches: Indices of the samples of each batch, as `SampleOrder.draw` returns them.
        workers: Number of worker processes; 0 makes the samples in this process.

    Yields:
        The batches.

    Raises:
        RequestError: A file or a record of the store is damaged.
        ImageError: An image cannot be decoded.
    """
    loader = DataLoader(
        _EpochDataset(data, epoch),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate_samples,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=end_silently_on_signals,
    )
    with block_stop_signals(), protect_worker_processes():
        loaded_batches = iter(loader)  # starts the workers
    for batch_or_error in loaded_batches:
        if isinstance(batch_or_error, TinyViTError):
            raise batch_or_error
        yield _make_training_batch(batch_or_error)


def _make_training_batch(tensors: dict[str, Any]) -> TrainingBatch:
    labels, teacher = tensors.get("labels"), tensors.get("teacher")
    erasures = tensors.get("erasures")
    return TrainingBatch(
        pixels=tensors["pixels"],
        labels=None if labels is None else BatchLabels(**labels),
        teacher=None if teacher is None else BatchPredictions(**teacher),
        erasures=None if erasures is None else BatchErasures(**erasures),
    )


def _collate_samples(samples: list[Sample | TinyViTError]) -> Any:
    """Stack the values of all samples, or return the first error."""
    intact_samples = []
    for sample in samples:
        if isinstance(sample, TinyViTError):
            return sample
        intact_samples.append(sample)
    erasures = [sample.pop("erasure", None) for sample in intact_samples]
    batch = default_collate(intact_samples)
    if any(erasures):
        batch["erasures"] = _collate_erasures(erasures)
    return batch


def _collate_erasures(erasures: list[Erasure | None]) -> dict[str, Tensor]:
    """Return the fields of `BatchErasures` for the erasures of all images of a batch."""
    boxes, noise = [], []
    for index, erasure in enumerate(erasures):
        if erasure is not None:
            _, height, width = erasure.noise.shape
            boxes.append([index, erasure.top, erasure.left, height, width])
            noise.append(torch.from_numpy(erasure.noise).reshape(-1))
    return {"boxes": torch.tensor(boxes), "noise": torch.cat(noise)}


def choose_worker_count() -> int:
    """Choose the default number of worker processes, from 1 to 8.

    One core is left to the training process.
    """
    return max(1, min(_MAX_DEFAULT_WORKERS, (os.cpu_count() or 1) - 1))
