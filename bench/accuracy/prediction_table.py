"""Keeps the predictions for many images in little memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import overload

from tinyvit.bench.accuracy.predictions import TOP_K, ImagePrediction

_NO_CLASS = -1
"""Stands for a class that a prediction does not have, because it has fewer than `TOP_K`."""


class PredictionTable(Sequence[ImagePrediction]):
    """Predictions in arrays of numbers, which take 28 bytes for each image.

    A tuple of `ImagePrediction` takes 340 bytes for each, and a data set may have a million images.
    """

    def __init__(self, predictions: Iterable[ImagePrediction] = ()) -> None:
        """Store predictions.

        Args:
            predictions: The first predictions, each with at most `TOP_K` classes.
        """
        self._classes = array("i")
        self._scores = array("d")
        self._errors: dict[int, str] = {}
        for prediction in predictions:
            self.append(prediction)

    def append(self, prediction: ImagePrediction) -> None:
        """Store one more prediction.

        Args:
            prediction: The prediction, with at most `TOP_K` classes.
        """
        missing = TOP_K - len(prediction.classes)
        if missing < 0:
            raise ValueError(f"a prediction has {len(prediction.classes)} classes")
        if prediction.error:
            self._errors[len(self)] = prediction.error
        self._classes.extend((*prediction.classes, *[_NO_CLASS] * missing))
        self._scores.append(prediction.score)

    def __len__(self) -> int:
        """Return the number of predictions."""
        return len(self._scores)

    @overload
    def __getitem__(self, index: int, /) -> ImagePrediction: ...

    @overload
    def __getitem__(self, index: slice, /) -> tuple[ImagePrediction, ...]: ...

    def __getitem__(self, index: int | slice, /) -> ImagePrediction | tuple[ImagePrediction, ...]:
        """Return the prediction for one image, or those for some images."""
        if isinstance(index, slice):
            return tuple(self._make_prediction(i) for i in range(len(self))[index])
        return self._make_prediction(range(len(self))[index])

    def __eq__(self, other: object) -> bool:
        """Return whether another table has the same predictions."""
        if not isinstance(other, PredictionTable):
            return NotImplemented
        return (self._classes, self._scores, self._errors) == (
            other._classes,
            other._scores,
            other._errors,
        )

    def _make_prediction(self, index: int) -> ImagePrediction:
        classes = self._classes[TOP_K * index : TOP_K * (index + 1)]
        return ImagePrediction(
            tuple(number for number in classes if number != _NO_CLASS),
            self._scores[index],
            self._errors.get(index, ""),
        )
