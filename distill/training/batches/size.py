"""Chooses the number of images per step for small data sets."""

from __future__ import annotations

MIN_STEPS_PER_EPOCH = 4
"""A default batch is reduced if an epoch would have fewer steps."""
_MIN_BATCH = 8
"""Smallest batch that is chosen, because BatchNorm needs several images; fewer only if there are
fewer images."""


def fit_batch(batch: int, view_count: int, process_count: int) -> int:
    """Reduce a batch until an epoch has at least `MIN_STEPS_PER_EPOCH` steps.

    Args:
        batch: The batch of the preset.
        view_count: Number of views in an epoch.
        process_count: Number of processes that train together.

    Returns:
        `batch` if it is small enough. Otherwise, a power of two for each process: the largest one
        with enough steps, or 8 images in all if that is more. Never more than there are views.
    """
    if view_count // batch >= MIN_STEPS_PER_EPOCH:
        return batch
    smallest = min(_MIN_BATCH, view_count) // process_count
    per_process = max(smallest, 1)
    while 2 * per_process * process_count * MIN_STEPS_PER_EPOCH <= view_count:
        per_process *= 2
    return min(batch, per_process * process_count)
