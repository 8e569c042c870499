"""Percentiles that are not claimed beyond what the samples support, and the interval of a ratio.

The highest of a few samples says little about a 99th percentile: the slow runs may just not have
occurred. LoadGen of MLPerf Inference therefore reports a percentile only from a minimum number of
samples, and estimates an upper bound for it that holds with 99% confidence. `bound_rank` is its
estimate; the source is loadgen/early_stopping.cc in https://github.com/mlcommons/inference.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from tinyvit.bench.latency.interleave import Timing, round_ratios

BOUND_CONFIDENCE = 0.99
"""Confidence with which a percentile is below its upper bound, the value that LoadGen uses."""
RATIO_CONFIDENCE = 0.95
"""Confidence of the interval of a ratio."""
MIN_SAMPLES = {0.9: 64, 0.99: 662}
"""Percentile -> samples that are needed to report it: the fewest for which `bound_rank` is 1."""


@dataclass(frozen=True)
class Summary:
    """Statistics of latencies in milliseconds; no sample is left out.

    Attributes:
        sample_count: Number of samples.
        min_ms: Lowest sample.
        median_ms: Median.
        mean_ms: Arithmetic mean.
        max_ms: Highest sample.
        p90_ms: 90th percentile by the nearest rank; None for too few samples (`MIN_SAMPLES`).
        p99_ms: 99th percentile likewise.
        p90_bound_ms: Upper bound of the 90th percentile with 99% confidence; None likewise.
        p99_bound_ms: Upper bound of the 99th percentile likewise.
    """

    sample_count: int
    min_ms: float
    median_ms: float
    mean_ms: float
    max_ms: float
    p90_ms: float | None
    p99_ms: float | None
    p90_bound_ms: float | None
    p99_bound_ms: float | None


def summarize(times_ms: Sequence[float]) -> Summary:
    """Compute the statistics of latencies.

    Args:
        times_ms: At least one sample, in milliseconds.
    """
    ranked = sorted(times_ms)
    count = len(ranked)
    is_reported = {p: count >= minimum for p, minimum in MIN_SAMPLES.items()}
    return Summary(
        sample_count=count,
        min_ms=ranked[0],
        median_ms=statistics.median(ranked),
        mean_ms=statistics.fmean(ranked),
        max_ms=ranked[-1],
        p90_ms=percentile(ranked, 0.9) if is_reported[0.9] else None,
        p99_ms=percentile(ranked, 0.99) if is_reported[0.99] else None,
        p90_bound_ms=ranked[count - bound_rank(count, 0.9)] if is_reported[0.9] else None,
        p99_bound_ms=ranked[count - bound_rank(count, 0.99)] if is_reported[0.99] else None,
    )


def percentile(ranked: Sequence[float], p: float) -> float:
    """Return a percentile by the nearest-rank method.

    Args:
        ranked: Samples in ascending order.
        p: The percentile as a fraction, 0 to 1.

    Returns:
        The lowest sample that at least the fraction `p` of all samples does not exceed.
    """
    return ranked[max(1, math.ceil(round(p * len(ranked), 9))) - 1]


@lru_cache(maxsize=1024)
def bound_rank(count: int, p: float) -> int:
    """Tell which of the highest samples bounds a percentile with 99% confidence.

    The number of samples above the true percentile has a binomial distribution. The result is the
    largest t for which it is t or less with a probability of at most 1%, so that the t-th highest
    sample is above the percentile with at least 99% confidence. LoadGen uses the same t.

    Args:
        count: Number of samples.
        p: The percentile as a fraction, 0 to 1.

    Returns:
        The rank from above, 1 for the highest sample; 0 if no sample bounds the percentile.
    """
    above, probability = 0, p**count
    cumulative = probability
    while cumulative <= 1 - BOUND_CONFIDENCE:
        above += 1
        probability *= (count - above + 1) / above * (1 - p) / p
        cumulative += probability
    return max(0, above - 1)


@dataclass(frozen=True)
class RatioInterval:
    """A ratio of two latencies with its 95% confidence interval.

    Attributes:
        median: The ratio.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    median: float
    low: float
    high: float


def ratio_interval(ours: Timing, theirs: Timing) -> RatioInterval:
    """Divide the latency of one workload by that of another, and give the 95% interval.

    The interval is that of the sign test: it consists of order statistics and assumes nothing about
    how latencies are distributed. Fewer than six rounds do not support 95%; the interval then
    reaches from the lowest to the highest ratio.

    Args:
        ours: Latencies of the workload of interest.
        theirs: Latencies of the reference, from the same `run_interleaved`.

    Returns:
        The median, over the rounds, of the ratio of that round's two medians, and its interval;
        below 1 if `ours` is faster.
    """
    ratios = sorted(round_ratios(ours, theirs))
    count = len(ratios)
    skipped, tail_probability = 0, 0.5**count
    while tail_probability <= (1 - RATIO_CONFIDENCE) / 2:
        skipped += 1
        tail_probability += math.comb(count, skipped) * 0.5**count
    skipped = max(0, skipped - 1)
    return RatioInterval(statistics.median(ratios), ratios[skipped], ratios[count - 1 - skipped])
