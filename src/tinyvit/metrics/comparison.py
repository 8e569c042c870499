"""Compares a classifier with a reference classifier on the same images, image by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.metrics.accuracy import Truths, top_k_correct
from tinyvit.metrics.checks import require_images, require_same_length
from tinyvit.metrics.significance import paired_difference_interval, wilson_interval
from tinyvit.text.plurals import format_count


def agreement(first: npt.NDArray[np.integer[Any]], second: npt.NDArray[np.integer[Any]]) -> float:
    """Return the percentage of images for which two classifiers predict the same class.

    Args:
        first: Top-1 class of each image by one classifier, (n,).
        second: Top-1 class of each image by the other classifier, (n,).

    Returns:
        Percent of images, 0 to 100.

    Raises:
        RequestError: There are no images, or the inputs describe different numbers of images.
    """
    require_same_length(len(first), len(second))
    require_images(len(first))
    return _compute_percentage(first == second)


@dataclass(frozen=True)
class Flips:
    """Numbers of images that only a classifier, or only its reference, classifies correctly.

    Attributes:
        worse: Number of images that only the reference classifies correctly.
        better: Number of images that only the classifier itself classifies correctly.
    """

    worse: int
    better: int


def count_flips(correct: npt.NDArray[np.bool_], reference_correct: npt.NDArray[np.bool_]) -> Flips:
    """Count the images that only one of the two classifiers classifies correctly.

    Args:
        correct: Whether the classifier is correct on each image, (n,).
        reference_correct: Whether the reference is correct on each image, (n,).

    Returns:
        The two numbers.

    Raises:
        RequestError: The inputs describe different numbers of images.
    """
    require_same_length(len(correct), len(reference_correct))
    return Flips(
        worse=int((reference_correct & ~correct).sum()),
        better=int((correct & ~reference_correct).sum()),
    )


FLOAT32_NETWORK = "the float32 network"
"""Name of the reference of an int8 artifact in texts: the same network in float32, in the same
engine."""


@dataclass(frozen=True)
class PairedComparison:
    """Agreement and accuracies of a classifier and a reference on the same images.

    Attributes:
        image_count: Number of images.
        agreement: Percent of images for which both predict the same class.
        top1: Top-1 accuracy of the classifier in percent; None if the correct classes are unknown.
        reference_top1: Top-1 accuracy of the reference in percent; None if the correct classes are
            unknown.
        worse: Number of images that only the reference classifies correctly; 0 if the correct
            classes are unknown.
        better: Number of images that only the classifier itself classifies correctly; 0 if the
            correct classes are unknown.
    """

    image_count: int
    agreement: float
    top1: float | None = None
    reference_top1: float | None = None
    worse: int = 0
    better: int = 0

    @property
    def drop(self) -> float | None:
        """Loss of top-1 accuracy in percentage points, negative for a gain.

        None if the correct classes are unknown.
        """
        if self.top1 is None or self.reference_top1 is None:
            return None
        return self.reference_top1 - self.top1

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of a 95% confidence interval.

        If the correct classes are known, this is the interval of `drop` in percentage points
        (`paired_difference_interval`). Otherwise, this is the interval of `agreement` in percent
        (`wilson_interval`). Neither has the width 0, even if the two classifiers never differ.
        """
        if self.drop is None:
            same_count = round(self.agreement * self.image_count / 100)
            return wilson_interval(same_count, self.image_count)
        return paired_difference_interval(self.worse, self.better, self.image_count)

    def describe(self, reference_name: str) -> str:
        """Describe the comparison on one line.

        Args:
            reference_name: What the reference is, such as "the float32 network".

        Returns:
            The accuracies and flips if the correct classes are known, and the agreement.
        """
        agreement_text = (
            f"{self.agreement:.1f}% of {self.image_count} images"
            f" get the same class as {reference_name}"
        )
        low, high = self.interval
        if self.drop is None:
            return f"{agreement_text} (95%: from {low:.1f} to {high:.1f})"
        change = "drop"
        if self.drop < 0:  # the ends of the interval are those of the gain then
            change, low, high = "gain", -high, -low
        low, high = round(low, 1) + 0.0, round(high, 1) + 0.0  # + 0.0 turns -0.0 into 0.0
        return (
            f"top-1 is {self.top1:.1f}%, and {self.reference_top1:.1f}% for {reference_name}: "
            f"a {change} of {abs(self.drop):.1f} points (95%: from {low:.1f} to {high:.1f}; "
            f"{format_count(self.worse, 'image')} worse, {self.better} better); {agreement_text}"
        )


def compare_logits(
    logits: npt.NDArray[Any], reference_logits: npt.NDArray[Any], truths: Truths | None = None
) -> PairedComparison:
    """Compare the top-1 classes of a classifier with those of a reference, by the logits of both.

    Args:
        logits: Logits (n, classes) of the classifier.
        reference_logits: Logits (n, classes) of the reference for the same images.
        truths: The correct class or the acceptable classes of each image; None if unknown.

    Returns:
        The agreement and, if the correct classes are known, both accuracies and the flips.

    Raises:
        RequestError: There are no images, or the inputs describe different numbers of images.
    """
    return compare_classes(logits.argmax(1), reference_logits.argmax(1), truths)


def compare_classes(
    classes: npt.NDArray[np.integer[Any]],
    reference_classes: npt.NDArray[np.integer[Any]],
    truths: Truths | None = None,
) -> PairedComparison:
    """Compare the top-1 classes of a classifier with those of a reference.

    Args:
        classes: Top-1 class of each image by the classifier, (n,).
        reference_classes: Top-1 class of each image by the reference, (n,).
        truths: The correct class or the acceptable classes of each image; None if unknown.

    Returns:
        The agreement and, if the correct classes are known, both accuracies and the flips.

    Raises:
        RequestError: There are no images, or the inputs describe different numbers of images.
    """
    image_count, percent_equal = len(classes), agreement(classes, reference_classes)
    if truths is None:
        return PairedComparison(image_count, percent_equal)
    correct = top_k_correct(classes[:, None], truths, k=1)
    reference_correct = top_k_correct(reference_classes[:, None], truths, k=1)
    flips = count_flips(correct, reference_correct)
    return PairedComparison(
        image_count=image_count,
        agreement=percent_equal,
        top1=_compute_percentage(correct),
        reference_top1=_compute_percentage(reference_correct),
        worse=flips.worse,
        better=flips.better,
    )


def _compute_percentage(values: npt.NDArray[np.bool_]) -> float:
    """Return the percentage of entries that are true."""
    return 100 * float(values.mean())
