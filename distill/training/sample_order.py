"""Orders the samples of an epoch, and divides the order into batches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import numpy.typing as npt

_SEED_LIMIT = 2**32
"""numpy's RandomState accepts only seeds below this limit."""
_SEED_FACTOR = 1_000_003
"""The seed of an epoch's order is the run's seed times this prime number, plus the epoch. Without
the factor, epoch 1 of a run would have the same order as epoch 0 of a run with the next seed."""


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


def divide_order(order: npt.NDArray[np.int64], sizes: Sequence[int]) -> list[list[int]]:
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
