"""Computes the accuracy of each class, as a CSV file and as a message about the worst classes."""

from __future__ import annotations

from collections.abc import Sequence

from tinyvit.distill.training.reports.class_names import make_unique_names
from tinyvit.distill.training.validation.evaluate import ImagePredictions
from tinyvit.labels import Label
from tinyvit.metrics import ClassAccuracy, accuracy_per_class, wilson_interval
from tinyvit.text.csv_text import format_csv

_WORST_CLASSES = 5
_MAX_NAME_LENGTH = 40
"""Largest number of characters of a class name in a message."""
_HEADER = ("class", "images", "correct", "accuracy (%)", "95% low (%)", "95% high (%)")


def format_class_accuracy(predictions: ImagePredictions, labels: Sequence[Label]) -> str:
    """Return the accuracy of each class as CSV.

    Args:
        predictions: The predictions.
        labels: The labels of all classes of the network.

    Returns:
        One line for each class with images, in the order of the classes, with the limits of the 95%
        confidence interval (Wilson's score interval). Percentages have two decimals.
    """
    names = make_unique_names(labels)
    rows = []
    for accuracy in accuracy_per_class(predictions.is_correct, predictions.classes):
        correct_count = _count_correct(accuracy)
        interval = wilson_interval(correct_count, accuracy.image_count)
        percentages = [f"{percentage:.2f}" for percentage in (accuracy.top1, *interval)]
        counts = [str(accuracy.image_count), str(correct_count)]
        rows.append([names[accuracy.class_index], *counts, *percentages])
    return format_csv(_HEADER, rows)


def describe_worst_classes(predictions: ImagePredictions, labels: Sequence[Label]) -> str:
    """Describe the five classes with the lowest accuracy.

    Args:
        predictions: The predictions.
        labels: The labels of all classes of the network.

    Returns:
        The message, on one line.
    """
    accuracies = accuracy_per_class(predictions.is_correct, predictions.classes)
    # Of equal accuracies, that of more images is the more certain one.
    worst = sorted(accuracies, key=lambda accuracy: (accuracy.top1, -accuracy.image_count))
    if worst[0].top1 == 100:
        return "every class has an accuracy of 100%"
    names = make_unique_names(labels, _MAX_NAME_LENGTH)
    descriptions = [
        f"{names[accuracy.class_index]} {accuracy.top1:.1f}% "
        f"({_count_correct(accuracy)} of {accuracy.image_count})"
        for accuracy in worst[:_WORST_CLASSES]
    ]
    return f"the classes with the lowest accuracy: {', '.join(descriptions)}"


def _count_correct(accuracy: ClassAccuracy) -> int:
    """Return the number of correctly classified images of a class."""
    return round(accuracy.top1 * accuracy.image_count / 100)
