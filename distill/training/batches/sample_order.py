"""Orders the samples of an epoch, and divides the order into batches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import numpy.typing as npt

from tinyvit.distill.training.batches.data_loader import TrainingData
from tinyvit.distill.training.config import TrainingConfig

Indices = npt.NDArray[np.int64]

_SEED_LIMIT = 2**32
"""numpy's RandomState accepts only seeds below this limit."""
_SEED_FACTOR = 1_000_003
"""The seed of an epoch's order is the run's seed times this prime number, plus the epoch. Without
the factor, epoch 1 of a run would have the same order as epoch 0 of a run with the next seed."""


class SampleOrder:
    """The samples of every epoch of a run, in order.

    The order depends only on the arguments, so it is the same on every machine.
    """

    def __init__(self, seed: int, sample_count: int, classes: Indices | None = None) -> None:
        """Prepare the order.

        Args:
            seed: Seed of the run.
            sample_count: Number of different samples.
            classes: Class of each sample, int64 (sample_count,), so that every epoch uses every
                class equally often (`draw_balanced`). With None, every epoch uses every sample
                once.
        """
        self._seed, self._sample_count, self._classes = seed, sample_count, classes

    def __len__(self) -> int:
        """Return the number of samples in an epoch."""
        if self._classes is None:
            return self._sample_count
        class_count = len(np.unique(self._classes))
        return self._sample_count // class_count * class_count

    def draw(self, epoch: int) -> Indices:
        """Return the samples of an epoch.

        Args:
            epoch: Epoch, from 0.

        Returns:
            Indices of the samples, int64 (n,), as `shuffle_indices` or `draw_balanced` returns
            them.
        """
        if self._classes is None:
            return shuffle_indices(self._seed, epoch, self._sample_count)
        return draw_balanced(self._seed, epoch, self._classes)


def make_sample_order(data: TrainingData, config: TrainingConfig) -> SampleOrder:
    """Return the order of the samples of a run.

    Args:
        data: The training images. With the setting `balance`, all are in class folders.
        config: The training settings.
    """
    return SampleOrder(config.seed, len(data), data.sample_classes if config.balance else None)


def shuffle_indices(seed: int, epoch: int, sample_count: int) -> Indices:
    """Return a random permutation of all samples, which is the same on every machine.

    Args:
        seed: Seed of the run.
        epoch: Epoch, from 0.
        sample_count: Number of samples.

    Returns:
        Indices of the samples, int64 (sample_count,).
    """
    return _make_random(seed, epoch).permutation(sample_count).astype(np.int64)


def draw_balanced(seed: int, epoch: int, classes: Indices) -> Indices:
    """Draw samples for an epoch so that all classes are equally frequent.

    Every class gets the same number of draws, which is the mean number of samples per class,
    rounded down. A class with fewer samples uses all of them before it uses one again. Of a class
    with more samples, each epoch uses other ones.

    Args:
        seed: Seed of the run.
        epoch: Epoch, from 0.
        classes: Class of each of N samples, int64 (N,).

    Returns:
        Indices of the samples in random order, int64 (n,). For the second use of a sample, N is
        added to its index, for the third use 2 N, and so on.
    """
    random = _make_random(seed, epoch)
    sample_count = len(classes)
    _, class_sizes = np.unique(classes, return_counts=True)
    draws_per_class = sample_count // len(class_sizes)
    sorted_samples = np.argsort(classes, kind="stable")
    drawn: list[Indices] = []
    for members in np.split(sorted_samples, np.cumsum(class_sizes)[:-1]):
        use_count = -(-draws_per_class // len(members))
        uses = [random.permutation(members) + sample_count * use for use in range(use_count)]
        drawn.append(np.concatenate(uses)[:draws_per_class])
    return random.permutation(np.concatenate(drawn)).astype(np.int64)


def _make_random(seed: int, epoch: int) -> np.random.RandomState:
    """Return the source of randomness for the order of an epoch."""
    return np.random.RandomState((seed * _SEED_FACTOR + epoch) % _SEED_LIMIT)


def divide_order(order: Indices, sizes: Sequence[int]) -> list[list[int]]:
    """Divide an order of samples into batches.

    Args:
        order: Indices of the samples, int64 (n,).
        sizes: Sizes of the batches, which repeat until the end of the order.

    Returns:
        The indices of each batch. An incomplete last batch is left out.
    """
    batches: list[list[int]] = []
    start = 0
    for size in cycle(sizes):
        if start + size > len(order):
            return batches
        batches.append(order[start : start + size].tolist())
        start += size
    return batches
