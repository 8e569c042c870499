"""Samples -> percentiles that are not claimed beyond what the samples say, and the interval of a ratio.

The percentile of a sample alone is optimiztic: of few runs the worst were simply not met. MLPerf's LoadGen therefore claims the
percentile p of n runs only where n is enough, and its early-stopping estimate is a time that p is below with 99% confidence
(mlcommons/inference, loadgen/early_stopping.cc: of n runs at least t + 1 must be slower, t as below).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from tinyvit.bench.latency.interleave import Timing

CONFIDENCE = 0.99
"""Of the early-stopping estimate, as LoadGen's."""
INTERVAL = 0.95
"""Of a ratio."""
MIN_SAMPLES_ABOVE = {0.9: 64, 0.99: 662}
"""Runs from which a percentile may be claimed: the fewest with `_over(n, p)` of 1 or more."""


@dataclass(frozen=True)
class Summary:
    """Milliseconds of some runs; nothing is clipped. p90_ms, p99_ms: by nearest rank, None of fewer runs than ENOUGH says; p90_bound_ms,
    p99_bound_ms: what the percentile is below with 99% confidence, None likewise."""

    samples: int
    min_ms: float
    median_ms: float
    mean_ms: float
    max_ms: float
    p90_ms: float | None
    p99_ms: float | None
    p90_bound_ms: float | None
    p99_bound_ms: float | None


def summarize(times_ms: Sequence[float]) -> Summary:
    """Of one run or more."""
    ranked = sorted(times_ms)
    count = len(ranked)
    claimed = {p: count >= enough for p, enough in MIN_SAMPLES_ABOVE.items()}
    return Summary(
        samples=count,
        min_ms=ranked[0],
        median_ms=statistics.median(ranked),
        mean_ms=statistics.fmean(ranked),
        max_ms=ranked[-1],
        p90_ms=percentile(ranked, 0.9) if claimed[0.9] else None,
        p99_ms=percentile(ranked, 0.99) if claimed[0.99] else None,
        p90_bound_ms=ranked[count - samples_above(count, 0.9)] if claimed[0.9] else None,
        p99_bound_ms=ranked[count - samples_above(count, 0.99)] if claimed[0.99] else None,
    )


def percentile(ranked: Sequence[float], p: float) -> float:
    """The nearest-rank percentile of sorted times: the smallest that at least `p` (0 to 1) of them do not exceed."""
    return ranked[max(1, math.ceil(round(p * len(ranked), 9))) - 1]


@lru_cache(maxsize=1024)
def samples_above(count: int, p: float) -> int:
    """LoadGen's t: the largest number for which so few runs or fewer, of `count`, exceed the p-th percentile with at most 1% probability.

    The t-th slowest run is then slower than the percentile with 99% confidence; 0 where there are too few runs for any.
    """
    t, probability = 0, p**count
    total = probability
    while total <= 1 - CONFIDENCE:
        t += 1
        probability *= (count - t + 1) / t * (1 - p) / p
        total += probability
    return max(0, t - 1)


@dataclass(frozen=True)
class Interval:
    """A median, and the limits that hold the true one with INTERVAL's confidence."""

    median: float
    low: float
    high: float


def ratio_interval(ours: Timing, theirs: Timing) -> Interval:
    """ours / theirs, below 1 where ours is faster: the median over the rounds of the ratio of that round's two medians.

    Its interval is the sign test's: order statistics, with no assumption of how times are distributed. Of fewer than six rounds
    there is none that wide, and it runs from the least to the greatest.
    """
    ratios = sorted(
        statistics.median(a) / statistics.median(b) for a, b in zip(ours.turns_ms, theirs.turns_ms)
    )
    count = len(ratios)
    skipped, total = 0, 0.5**count
    while total <= (1 - INTERVAL) / 2:
        skipped += 1
        total += math.comb(count, skipped) * 0.5**count
    skipped = max(0, skipped - 1)
    return Interval(statistics.median(ratios), ratios[skipped], ratios[count - 1 - skipped])
