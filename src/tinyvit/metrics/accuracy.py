"""Accuracy of one classifier: top-1, top-5, accuracy of each class, and calibration error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tinyvit.errors import RequestError
from tinyvit.metrics.checks import require_images, require_same_length

Truths: TypeAlias = "npt.NDArray[np.integer[Any]] | Sequence[tuple[int, ...]]"
"""The correct class of each image: an integer array (n,), or for each image a tuple of all
acceptable classes, as in ImageNet-ReaL (Beyer et al., "Are we done with ImageNet?", 2020)."""


def rank_classes(logits: npt.NDArray[Any], k: int) -> npt.NDArray[np.int64]:
    """Return the k best classes of each image, best first.

    The first column always equals `logits.argmax(1)`: of equal logits the lower class index comes
    first, and NaN counts as the largest value.

    Args:
        logits: Logits (n, classes) of any real dtype.
        k: Number of classes to return for each image, at least 1. A network with fewer classes
            returns all of its classes.

    Returns:
        Class indices, int64 (n, min(k, classes)).

    Raises:
        RequestError: k is below 1.
    """
    if k < 1:
        raise RequestError(f"k={k} ranks no class", "give a whole number from 1")
    # Sorting the mirrored columns and mirroring the result keeps the order of equal logits.
    # Sorting -logits would do so too, but negation overflows for integer logits.
    ascending = np.argsort(logits[:, ::-1], axis=1, kind="stable")
    return np.asarray(logits.shape[1] - 1 - ascending[:, ::-1][:, :k], np.int64)


def top_k_correct(
    ranked: npt.NDArray[np.integer[Any]], truths: Truths, k: int
) -> npt.NDArray[np.bool_]:
    """Tell for each image whether a correct class is among the k best.

    Args:
        ranked: Class indices (n, m), best first, as `rank_classes` returns them. If m is smaller
            than k, all m classes count.
        truths: The correct class or the acceptable classes of each image. An image with an empty
            tuple is never correct.
        k: Number of best classes that count, at least 1.

    Returns:
        Boolean array (n,).

    Raises:
        RequestError: k is below 1, or `ranked` and `truths` describe different numbers of images.
    """
    if k < 1:
        raise RequestError(f"k={k} counts no class", "give a whole number from 1")
    require_same_length(len(ranked), len(truths))
    best = ranked[:, :k]
    if isinstance(truths, np.ndarray):
        matches: npt.NDArray[np.bool_] = (best == truths[:, None]).any(axis=1)
        return matches
    rows = zip(best.tolist(), truths)
    return np.array([not set(row).isdisjoint(truth) for row, truth in rows], np.bool_)


class AccuracyCounter:
    """Counts top-1 and top-5 hits over batches of images."""

    def __init__(self) -> None:
        self._images = self._top1_correct = self._top5_correct = 0

    def update(self, predictions: npt.NDArray[Any], truths: Truths) -> None:
        """Add a batch of images.

        Args:
            predictions: Logits (n, classes) of a floating-point dtype, or class indices (n, m) of
                an integer dtype, best first, as `rank_classes` returns them. Indices should
                have five columns, or all classes where a network has fewer than five.
            truths: The correct class or the acceptable classes of each of the n images.

        Raises:
            RequestError: `predictions` and `truths` describe different numbers of images.
        """
        is_ranked = np.issubdtype(predictions.dtype, np.integer)
        ranked = predictions if is_ranked else rank_classes(predictions, 5)
        self._top1_correct += int(top_k_correct(ranked, truths, 1).sum())
        self._top5_correct += int(top_k_correct(ranked, truths, 5).sum())
        self._images += len(ranked)

    @property
    def images(self) -> int:
        """Number of images that were added."""
        return self._images

    @property
    def top1(self) -> float:
        """Percent of images whose best class is correct; RequestError without images."""
        require_images(self._images)
        return 100 * self._top1_correct / self._images

    @property
    def top5(self) -> float:
        """Percent of images with a correct class among the best five; RequestError without any."""
        require_images(self._images)
        return 100 * self._top5_correct / self._images


@dataclass(frozen=True)
class ClassAccuracy:
    """Top-1 accuracy on the images of one class.

    Attributes:
        class_index: Index of the class.
        images: Number of images of the class, at least 1.
        top1: Percent of these images that are classified correctly.
        reference_top1: The same percentage for a reference, or None without a reference.
    """

    class_index: int
    images: int
    top1: float
    reference_top1: float | None = None


def accuracy_per_class(
    correct: npt.NDArray[np.bool_],
    classes: npt.NDArray[np.integer[Any]],
    reference_correct: npt.NDArray[np.bool_] | None = None,
) -> tuple[ClassAccuracy, ...]:
    """Return the top-1 accuracy of each class that has an image.

    Args:
        correct: Whether each image is classified correctly, (n,).
        classes: The class that each image belongs to, (n,). An image with several acceptable
            classes belongs to the one that the caller names.
        reference_correct: Whether a reference classifies each image correctly, (n,), if known.

    Returns:
        One entry for each class with an image, in ascending order of the class index.

    Raises:
        RequestError: The inputs describe different numbers of images.
    """
    require_same_length(len(correct), len(classes))
    present, positions = np.unique(classes, return_inverse=True)
    counts = np.bincount(positions, minlength=len(present))

    def percentages(hits: npt.NDArray[np.bool_]) -> list[float]:
        """Percent of the images of each present class that are hits."""
        values: list[float] = (100 * np.bincount(positions, hits, len(present)) / counts).tolist()
        return values

    references: Sequence[float | None] = [None] * len(present)
    if reference_correct is not None:
        require_same_length(len(correct), len(reference_correct))
        references = percentages(reference_correct)
    rows = zip(present.tolist(), counts.tolist(), percentages(correct), references)
    return tuple(ClassAccuracy(*row) for row in rows)


def expected_calibration_error(
    scores: npt.NDArray[np.floating[Any]], correct: npt.NDArray[np.bool_], bins: int = 15
) -> float:
    """Return the expected calibration error of the best class's score.

    The scores are grouped into bins of equal width. The error is the mean over the bins, weighted
    by their number of images, of the gap between mean score and accuracy (Guo et al., "On
    Calibration of Modern Neural Networks", ICML 2017, who use 15 bins).

    Args:
        scores: Softmax probability of the best class of each image, (n,), 0 to 1.
        correct: Whether the best class of each image is correct, (n,).
        bins: Number of bins between 0 and 1.

    Returns:
        The error in percent, 0 (perfectly calibrated) to 100.

    Raises:
        RequestError: There are no images, or the inputs describe different numbers of images.
    """
    require_images(len(scores))
    require_same_length(len(scores), len(correct))
    positions = np.minimum((scores * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(positions, scores - correct, bins)
    return float(100 * np.abs(gaps).sum() / len(scores))
