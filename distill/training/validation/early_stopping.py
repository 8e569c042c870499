"""Decides whether a run ends before its last epoch."""

from __future__ import annotations

from collections.abc import Sequence

from tinyvit.distill.training.run.history import EpochSummary


def count_epochs_since_best(history: Sequence[EpochSummary]) -> int:
    """Count the epochs after the one with the best accuracy; of equal ones, the first is the best.

    Args:
        history: The finished epochs in order.

    Returns:
        The number; 0 without epochs or without validation images.
    """
    accuracies = [summary.top1 for summary in history if summary.top1 is not None]
    if not accuracies:
        return 0
    return len(accuracies) - 1 - accuracies.index(max(accuracies))


def is_out_of_patience(history: Sequence[EpochSummary], patience: int) -> bool:
    """Return whether a run ends because its accuracy has not improved for several epochs.

    The answer depends only on the finished epochs, so it is the same for a run that is resumed.

    Args:
        history: The finished epochs in order.
        patience: Number of epochs without a better accuracy after which a run ends; 0 never ends
            it.
    """
    return 0 < patience <= count_epochs_since_best(history)
