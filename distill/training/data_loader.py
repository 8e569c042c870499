"""What a step learns from: views of pictures, their labels, and the teacher's answers from the store; made by other processes, ahead."""

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

from tinyvit.distill.augmentation.pictures import TrainingImages
from tinyvit.distill.augmentation.views import Augmentation, make_view, view_seed
from tinyvit.distill.logits.store import Store
from tinyvit.errors import TinyViTError

Sample = dict[str, npt.NDArray[np.generic] | np.generic]


@dataclass(frozen=True)
class TrainingBatch:
    """pixels: uint8 (B, S, S, 3). classes, partners, shares: (B,), see `augment.View`, None without labels. known, probabilities: (B,
    K) of the store, None without one."""

    pixels: Tensor
    classes: Tensor | None
    partners: Tensor | None
    shares: Tensor | None
    known: Tensor | None
    probabilities: Tensor | None


@dataclass(frozen=True)
class TrainingData:
    """rows: the class of every picture among the student's, None where nobody knows. store: its answers and rules, or `how` and `seed`."""

    pictures: TrainingImages
    rows: npt.NDArray[np.int64] | None
    store: Store | None
    how: Augmentation
    seed: int
    size: int

    @property
    def views(self) -> int:
        """Of a picture in an epoch."""
        return self.store.header.views if self.store else 1

    def __len__(self) -> int:
        return len(self.pictures) * self.views


class _Epoch(Dataset["Sample | TinyViTError"]):
    """The samples of one epoch, or what is wrong with them: of an error in another process torch keeps the type and the traceback alone."""

    def __init__(self, source: TrainingData, epoch: int) -> None:
        self._source, self._epoch = source, epoch % source.store.epochs if source.store else epoch
        self._records = source.store.records(self._epoch) if source.store else None

    def __getitem__(self, sample: int) -> Sample | TinyViTError:
        try:
            return self._sample(int(sample))
        except TinyViTError as error:
            return error

    def _sample(self, sample: int) -> Sample:
        source = self._source
        index, nth = divmod(sample, source.views)
        how = source.how
        made: Sample = {}
        if source.store is None or self._records is None:
            seed = view_seed(source.seed, self._epoch, source.pictures.keys[index], nth)
        else:
            how = source.store.header.augmentation
            seed, made["known"], made["probabilities"] = source.store.answer(
                self._epoch, self._records, sample
            )
        seen = make_view(source.pictures.open, len(source.pictures), index, seed, source.size, how)
        made["pixels"] = seen.pixels
        if source.rows is not None:
            made["classes"], made["partners"] = source.rows[index], source.rows[seen.partner]
            made["shares"] = np.float32(seen.share)
        return made


def batches(
    source: TrainingData, epoch: int, order: npt.NDArray[np.int64], batch: int, workers: int
) -> Iterator[TrainingBatch]:
    """The samples of an epoch in this order, `batch` at a time; what is left over at the end is left out. Raises RequestError and
    ImageError for a record that is damaged or a picture that cannot be read."""
    names = ("pixels", "classes", "partners", "shares", "known", "probabilities")
    loader = DataLoader(
        _Epoch(source, epoch),
        batch_size=batch,
        sampler=order.tolist(),
        num_workers=workers,
        drop_last=True,
        collate_fn=_collated,
        pin_memory=torch.cuda.is_available(),
    )
    for made in loader:
        if isinstance(made, TinyViTError):
            raise made
        yield TrainingBatch(**{name: made.get(name) for name in names})


def _collated(samples: list[Sample | TinyViTError]) -> Any:
    return next(
        (each for each in samples if isinstance(each, TinyViTError)), None
    ) or default_collate(samples)


def order_of(seed: int, epoch: int, samples: int) -> npt.NDArray[np.int64]:
    """Another order of all samples for every epoch, the same on every machine."""
    return (
        np.random.RandomState((seed * 1_000_003 + epoch) % 2**32)
        .permutation(samples)
        .astype(np.int64)
    )


def workers_here() -> int:
    """Processes that make views, where nobody asked for a number."""
    return max(1, min(8, (os.cpu_count() or 1) - 1))
