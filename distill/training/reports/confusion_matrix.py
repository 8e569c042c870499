"""Counts how often each class is predicted for the images of each class: the confusion matrix.

A network can have 21,841 classes, so that the matrix has 477 million cells. It is therefore stored
as the pairs of classes that occur, of which there are at most as many as images. A table of it has
a limited number of classes, and one row and one column for all other classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyvit.distill.training.reports.class_names import make_unique_names
from tinyvit.distill.training.validation.evaluate import ImagePredictions
from tinyvit.labels import Label
from tinyvit.text.csv_text import format_csv

MAX_CSV_CLASSES = 1000
"""Largest number of classes in the CSV file of a confusion matrix."""
OTHER_CLASSES = "other classes"
"""Name of the row and the column for the classes that a table lacks."""
_CORNER = "correct class \\ predicted class"


@dataclass(frozen=True)
class ConfusionTable:
    """The part of a confusion matrix that is shown.

    Attributes:
        classes: Indices of the n classes with a row and a column of their own, in ascending order,
            int64 (n,).
        counts: Number of images for each correct class (row) and predicted class (column), int64
            (n, n). If there are other classes, the shape is (n + 1, n + 1), and the last row and
            the last column are those of all other classes together.
        class_count: Number of classes that occur, including the other classes.
    """

    classes: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    class_count: int

    @property
    def has_other_classes(self) -> bool:
        """Return whether the last row and column are those of all other classes."""
        return len(self.counts) > len(self.classes)


@dataclass(frozen=True)
class ConfusionMatrix:
    """The pairs of a correct and a predicted class that occur, and how often they occur.

    Attributes:
        pairs: Indices of the correct and the predicted class of each pair, int64 (P, 2), in
            ascending order.
        counts: Number of images with each pair, int64 (P,).
    """

    pairs: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    def make_table(self, max_classes: int) -> ConfusionTable:
        """Return the matrix of the classes that occur, or of some of them if they are too many.

        Args:
            max_classes: Largest number of classes with a row and a column of their own. If more
                classes occur, those in the most frequent confusions (pairs of different classes)
                are chosen.
        """
        occurring = np.unique(self.pairs)
        classes = occurring
        if len(occurring) > max_classes:
            classes = self._find_most_confused(max_classes, occurring)
        size = len(classes) + int(len(classes) < len(occurring))
        positions = np.searchsorted(classes, self.pairs)
        is_other = ~np.isin(self.pairs, classes)
        positions[is_other] = size - 1
        counts = np.zeros((size, size), np.int64)
        np.add.at(counts, (positions[:, 0], positions[:, 1]), self.counts)
        return ConfusionTable(classes, counts, len(occurring))

    def _find_most_confused(
        self, count: int, occurring: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Return the `count` classes in the most frequent confusions, in ascending order.

        If there are too few confusions, the first ones of the `occurring` classes are added.
        """
        is_confusion = self.pairs[:, 0] != self.pairs[:, 1]
        confusions, counts = self.pairs[is_confusion], self.counts[is_confusion]
        ordered = confusions[np.argsort(-counts, kind="stable")]
        # A dict keeps the order in which its keys were added.
        chosen = dict.fromkeys([*ordered.reshape(-1).tolist(), *occurring.tolist()])
        return np.array(sorted(list(chosen)[:count]), np.int64)


def count_confusions(predictions: ImagePredictions) -> ConfusionMatrix:
    """Count the pairs of a correct and a predicted class.

    Args:
        predictions: The predictions for at least one image.
    """
    image_pairs = np.stack([predictions.classes, predictions.predicted_classes], axis=1)
    pairs, counts = np.unique(image_pairs, axis=0, return_counts=True)
    return ConfusionMatrix(pairs, counts)


def format_confusion_matrix(matrix: ConfusionMatrix, labels: Sequence[Label]) -> str:
    """Return a confusion matrix as CSV.

    Args:
        matrix: The matrix.
        labels: The labels of all classes of the network.

    Returns:
        One line for each correct class, and one column for each predicted class, with the numbers
        of images. Classes without images that are never predicted are left out. If more than
        `MAX_CSV_CLASSES` remain, the last line and column are those of the other classes.
    """
    table = matrix.make_table(MAX_CSV_CLASSES)
    all_names = make_unique_names(labels)
    names = [all_names[index] for index in table.classes]
    if table.has_other_classes:
        names.append(OTHER_CLASSES)
    rows = [[name, *map(str, row)] for name, row in zip(names, table.counts.tolist())]
    return format_csv((_CORNER, *names), rows)
