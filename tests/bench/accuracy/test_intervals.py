"""Against figures that are printed in the literature, or computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tinyvit.bench.accuracy.intervals import calibration_error, mcnemar, wilson


def test_wilson() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for (right, count), limits in {
        (81, 263): (25.53, 36.62), (15, 148): (6.24, 16.05), (0, 20): (0.0, 16.11), (1, 29): (0.61, 17.18)
    }.items():  # fmt: skip
        assert wilson(right, count) == pytest.approx(limits, abs=0.006)
    assert wilson(20, 20)[1] == 100


def test_mcnemar() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 0) == pytest.approx(2 / 2**5)
    assert mcnemar(3, 1) == mcnemar(1, 3) == pytest.approx(2 * 5 / 16)
    assert mcnemar(4, 4) == 1
    assert 0 < mcnemar(700, 500) < 1e-7


def test_calibration_error() -> None:
    assert calibration_error(
        np.array([0.75] * 4), np.array([True, True, True, False])
    ) == pytest.approx(0)
    assert calibration_error(
        np.array([1.0, 1.0, 0.5, 0.5]), np.array([True, True, False, False])
    ) == pytest.approx(25)
