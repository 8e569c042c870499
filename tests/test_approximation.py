"""The error of an approximate tensor agrees with values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinyvit.metrics import ApproximationError


def measure(exact: list[float], approximate: list[float]) -> ApproximationError:
    error = ApproximationError()
    error.add(np.array(exact, np.float32), np.array(approximate, np.float32))
    return error


def test_values_are_those_computed_by_hand() -> None:
    """The powers are 9 + 16 = 25 and 9 + 25 = 34, the noise is 1, and the product is 29."""
    error = measure([3, 4], [3, 5])
    assert error.mean_square_error == 0.5
    assert error.snr_db == pytest.approx(13.9794, abs=1e-4)  # ten times log10 of 25
    assert error.cosine == pytest.approx(29 / math.sqrt(25 * 34))
    assert error.cosine == pytest.approx(0.994692, abs=1e-6)


def test_a_tenth_of_the_amplitude_is_20_db() -> None:
    assert measure([10, -10], [11, -11]).snr_db == pytest.approx(20)
    assert measure([10, -10], [11, -11]).cosine == pytest.approx(1)


def test_batches_give_the_same_as_all_values_together() -> None:
    error = measure([3], [3])
    error.add(np.array([[4.0]]), np.array([[5.0]]))
    assert error.snr_db == measure([3, 4], [3, 5]).snr_db
    assert error.mean_square_error == 0.5


@pytest.mark.parametrize(
    ("exact", "approximate", "cosine"),
    [([3, 4], [3, 4], 1.0), ([0, 0], [3, 4], None), ([], [], None)],
    ids=["exact", "zero", "no values"],
)
def test_a_ratio_that_is_not_defined_is_none(
    exact: list[float], approximate: list[float], cosine: float | None
) -> None:
    error = measure(exact, approximate)
    assert error.snr_db is None
    assert error.cosine == cosine


def test_opposite_values_have_a_cosine_of_minus_one() -> None:
    assert measure([1, 2], [-1, -2]).cosine == pytest.approx(-1)


def test_zero_approximations_have_no_cosine() -> None:
    error = measure([3, 4], [0, 0])
    assert error.cosine is None
    assert error.snr_db == 0
    assert error.mean_square_error == 12.5
