"""Class numbers that count from 1, or are in another order, are noticed by the predictions."""

from __future__ import annotations

import numpy as np
import pytest

from tinyvit.bench.accuracy.class_numbering import check_class_numbering


def shift(truth: list[int], offset: int) -> list[int]:
    return [index + offset for index in truth]


TRUTH = [1 + i % 98 for i in range(196)]


@pytest.mark.parametrize(
    ("offset", "words"), [(-1, "1 lower; the data seems to count from 1"), (1, "1 higher; check")]
)
def test_a_constant_offset_is_reported(offset: int, words: str) -> None:
    predicted: list[int | None] = [*shift(TRUTH, offset)]
    predicted[:20] = [0] * 19 + [None]
    (note,) = check_class_numbering([(truth,) for truth in TRUTH], predicted, 100)
    assert words in note
    assert "0.00% of the predictions agree with them, and 9" in note


def test_numbers_that_were_sorted_as_text_are_reported() -> None:
    order = sorted(range(100), key=str)
    predicted = [order.index(truth) for truth in TRUTH]
    (note,) = check_class_numbering([(truth,) for truth in TRUTH], predicted, 100)
    assert "with numbers in the order of their text (0, 1, 10, 100, ...)" in note
    assert "100.00%" in note


def test_right_numbers_and_weak_models_give_no_note() -> None:
    truths = [(truth,) for truth in TRUTH]
    assert check_class_numbering(truths, TRUTH, 100) == ()
    rng = np.random.default_rng(0)
    for class_count in (2, 10, 100):
        truths = [(int(truth),) for truth in rng.integers(0, class_count, 200)]
        predicted = [int(index) for index in rng.integers(0, class_count, 200)]
        assert check_class_numbering(truths, predicted, class_count) == ()
    assert check_class_numbering([(1,)] * 5, [0] * 5, 10) == ()
    assert check_class_numbering([], [], 10) == ()
    assert check_class_numbering([(1, 2)] * 50, [0] * 50, 10) == ()
