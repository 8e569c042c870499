"""A table of predictions returns what was stored, in little memory."""

from __future__ import annotations

import tracemalloc

import pytest

from tinyvit.bench.accuracy.prediction_table import PredictionTable
from tinyvit.bench.accuracy.predictions import ImagePrediction

PREDICTIONS = [
    ImagePrediction((3, 1, 0, 2, 7), 0.1 + 0.2),
    ImagePrediction((), 0.0, "it is empty"),
    ImagePrediction((0, 1), 0.5),
]


def test_predictions_are_returned_as_they_were_stored() -> None:
    table = PredictionTable(PREDICTIONS)
    assert len(table) == 3
    assert list(table) == PREDICTIONS
    assert table[-1] == PREDICTIONS[-1]
    assert table[1:] == tuple(PREDICTIONS[1:])
    with pytest.raises(IndexError):
        table[3]


def test_tables_with_other_predictions_are_not_equal() -> None:
    table = PredictionTable(PREDICTIONS)
    assert table == PredictionTable(PREDICTIONS)
    assert table != PredictionTable(PREDICTIONS[:2])
    assert table != PredictionTable([*PREDICTIONS[:2], ImagePrediction((0, 1), 0.25)])
    assert table != PREDICTIONS


def test_more_classes_than_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="6 classes"):
        PredictionTable([ImagePrediction((0, 1, 2, 3, 4, 5), 0.5)])


def test_a_prediction_takes_few_bytes() -> None:
    count = 20_000
    tracemalloc.start()
    try:
        table = PredictionTable(
            ImagePrediction((i, i + 1, i + 2, i + 3, i + 4), 1 / (i + 1)) for i in range(count)
        )
        used_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table) == count
    assert used_bytes < 40 * count
