"""Accuracy of one classifier: top-1, top-5, top-1 of each class, and confidence error.

The confidence error (expected calibration error, ECE) measures how well the probabilities of the
classifier match its accuracy. It is unrelated to the calibration of int8 quantization.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tinyvit.errors import RequestError
from tinyvit.metrics.checks import require_images, require_same_length

Truths: TypeAlias = "npt.NDArray[np.integer[Any]] | Sequence[tuple[int, ...]]"
"""The correct classes of n images: either an integer array (n,) with the class of each image, or a
sequence with a tuple of all acceptable classes of each image, as in ImageNet-ReaL (Beyer et al.,
"Are we done with ImageNet?", 2020)."""


def rank_classes(logits: npt.NDArray[Any], k: int) -> npt.NDArray[np.int64]:
    """Return the k best classes of each image, best first.

    The first column always equals `logits.argmax(1)`: if logits are equal, the lower class index
    comes first, and NaN is treated as the largest value.

    Args:
        logits: Logits (n, classes) of any real dtype.
        k: Number of classes to return for each image, at least 1. If there are fewer classes, all
            of them are returned.

    Returns:
        Class indices, int64 (n, min(k, classes)).

    Raises:
        RequestError: k is below 1.
    """
    if k < 1:
        raise RequestError(f"k={k} ranks no class", "give a whole number from 1")
    # A stable descending sort: reverse the columns, sort in ascending order, reverse the result.
    # Sorting -logits would give the same order, but negating integer logits can overflow.
    ascending = np.argsort(logits[:, ::-1], axis=1, kind="stable")
    return np.asarray(logits.shape[1] - 1 - ascending[:, ::-1][:, :k], np.int64)


def top_k_correct(
    ranked: npt.NDArray[np.integer[Any]], truths: Truths, k: int
) -> npt.NDArray[np.bool_]:
    """Return for each image whether a correct class is among the k best.

    Args:
        ranked: Class indices (n, m), best first, as `rank_classes` returns them. If m is smaller
            than k, all m classes are used.
        truths: The correct class or the acceptable classes of each image. An image with an empty
            tuple is never classified correctly.
        k: Number of best classes to use, at least 1.

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
    """Counts correct top-1 and top-5 predictions over batches of images."""

    def __init__(self) -> None:
        """Create a counter without images."""
        self._image_count = self._top1_correct = self._top5_correct = 0

    def update(self, predictions: npt.NDArray[Any], truths: Truths) -> None:
        """Add a batch of images.

        Args:
            predictions: Logits (n, classes) of a floating-point dtype, or class indices (n, m) of
                an integer dtype, best first, as `rank_classes` returns them, where m is 5, or the
                number of classes if there are fewer than five.
            truths: The correct class or the acceptable classes of each of the n images.

        Raises:
            RequestError: `predictions` and `truths` describe different numbers of images.
        """
        is_ranked = np.issubdtype(predictions.dtype, np.integer)
        ranked = predictions if is_ranked else rank_classes(predictions, k=5)
        self._top1_correct += int(top_k_correct(ranked, truths, k=1).sum())
        self._top5_correct += int(top_k_correct(ranked, truths, k=5).sum())
        self._image_count += len(ranked)

    @property
    def image_count(self) -> int:
        """Number of images that were added."""
        return self._image_count

    @property
    def top1(self) -> float:
        """Percent of images whose best class is correct.

        Without images, RequestError is raised.
        """
        require_images(self._image_count)
        return 100 * self._top1_correct / self._image_count

    @property
    def top5(self) -> float:
        """Percent of images for which one of the best five classes is correct.

        Without images, RequestError is raised.
        """
        require_images(self._image_count)
        return 100 * self._top5_correct / self._image_count


@dataclass(frozen=True)
class ClassAccuracy:
    """Top-1 accuracy on the images of one class.

    Attributes:
        class_index: Index of the class.
        image_count: Number of images of the class, at least 1.
        top1: Percent of these images that are classified correctly.
        reference_top1: The same percentage for a reference classifier; None if there is none.
    """

    class_index: int
    image_count: int
    top1: float
    reference_top1: float | None = None


def accuracy_per_class(
    correct: npt.NDArray[np.bool_],
    classes: npt.NDArray[np.integer[Any]],
    reference_correct: npt.NDArray[np.bool_] | None = None,
) -> tuple[ClassAccuracy, ...]:
    """Return the top-1 accuracy of each class, computed on the images of this class.

    Args:
        correct: Whether each image is classified correctly, (n,).
        classes: The class of each image, (n,). For an image with several acceptable classes, the
            caller chooses one of them.
        reference_correct: Whether the reference classifier is correct on each image, (n,); None if
            there is no reference.

    Returns:
        One entry for each class that has at least one image, in ascending order of the class index.

    Raises:
        RequestError: The inputs describe different numbers of images.
    """
    require_same_length(len(correct), len(classes))
    # `positions` has, for each image, the index of its class in `present_classes`.
    present_classes, positions = np.unique(classes, return_inverse=True)
    class_count = len(present_classes)
    image_counts = np.bincount(positions, minlength=class_count)

    def compute_top1(is_correct: npt.NDArray[np.bool_]) -> list[float]:
        """Return the percentage of correctly classified images for each of `present_classes`."""
        correct_counts = np.bincount(positions, weights=is_correct, minlength=class_count)
        percentages: list[float] = (100 * correct_counts / image_counts).tolist()
        return percentages

    reference_top1s: Sequence[float | None] = [None] * class_count
    if reference_correct is not None:
        require_same_length(len(correct), len(reference_correct))
        reference_top1s = compute_top1(reference_correct)
    columns = (present_classes.tolist(), image_counts.tolist(), compute_top1(correct))
    return tuple(
        ClassAccuracy(class_index, image_count, top1, reference_top1)
        for class_index, image_count, top1, reference_top1 in zip(*columns, reference_top1s)
    )


def expected_calibration_error(
    scores: npt.NDArray[np.floating[Any]], correct: npt.NDArray[np.bool_], bins: int = 15
) -> float:
    """Return the confidence error (expected calibration error, ECE) of a classifier.

    Images are grouped by the score of their best class into bins of equal width. The gap of a bin
    is the absolute difference between the mean score and the accuracy of its images. The error is
    the mean of the gaps, weighted by the number of images in each bin (Guo et al., "On Calibration
    of Modern Neural Networks", ICML 2017, who use 15 bins).

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
    bin_indices = np.minimum((scores * bins).astype(np.int64), bins - 1)
    # The sum of score - correct over the images of a bin is, except for its sign, the gap times the
    # number of images.
    signed_sums = np.bincount(bin_indices, weights=scores - correct, minlength=bins)
    return float(100 * np.abs(signed_sums).sum() / len(scores))
