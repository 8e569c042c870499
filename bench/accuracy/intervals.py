"""What counts of right answers are worth: intervals, tests, calibration."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_Z = 1.959963984540054
"""Of 95%, two-sided."""
BINS = 15


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95% interval of a share, in percent (Wilson 1927): right at 0 and 100% too, where the usual one is not."""
    share, square = right / count, _Z**2 / count
    middle, half = (
        share + square / 2,
        _Z * math.sqrt(share * (1 - share) / count + square / (4 * count)),
    )
    return max(0.0, 100 * (middle - half) / (1 + square)), min(
        100.0, 100 * (middle + half) / (1 + square)
    )


def mcnemar(worse: int, better: int) -> float:
    """Exact and two-sided: how often chance alone would tilt so many changed answers as much to one side."""
    count, least = worse + better, min(worse, better)
    if count == 0:
        return 1.0
    logs = (
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        - count * math.log(2)
        for k in range(least + 1)
    )
    return min(1.0, 2 * math.fsum(math.exp(each) for each in logs))


def calibration_error(scores: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error, percent: in 15 equal bins of the best class's score (0 to 1), the mean gap between score and share
    right, weighted by count (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017)."""
    bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, scores - right, BINS)
    return float(100 * np.abs(gaps).sum() / len(scores))
