"""Percentiles of latencies, reported only from enough samples, and the interval of a ratio.

A 99th percentile cannot be estimated from a few samples, because the slowest runs may not be among
them. LoadGen, the load generator of MLPerf Inference, therefore reports a percentile only from a
minimum number of samples, and estimates an upper bound of it with 99% confidence.
`bound_rank` computes the same estimate (loadgen/early_stopping.cc in
https://github.com/mlcommons/inference).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from tinyvit.bench.latency.interleave import Timing, ratios_by_round

BOUND_CONFIDENCE = 0.99
"""Confidence that a percentile is below its upper bound; LoadGen uses the same value."""
RATIO_CONFIDENCE = 0.95
"""Confidence of the interval of a ratio."""
MIN_SAMPLES = {0.9: 64, 0.99: 662}
"""Percentile -> fewest samples from which it is reported: those for which `bound_rank` is 1."""


@dataclass(frozen=True)
class Summary:
    """Statistics of latencies in milliseconds; no sample is left out.

    Attributes:
        sample_count: Number of samples.
        min_ms: Lowest sample.
        median_ms: Median.
        mean_ms: Arithmetic mean.
        max_ms: Highest sample.
        p90_ms: 90th percentile (nearest rank); None for fewer samples than `MIN_SAMPLES`.
        p99_ms: 99th percentile (nearest rank); None for fewer samples than `MIN_SAMPLES`.
        p90_bound_ms: Upper bound of the 90th percentile with 99% confidence; None if `p90_ms` is.
        p99_bound_ms: Upper bound of the 99th percentile with 99% confidence; None if `p99_ms` is.
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
        The lowest sample that is higher than or equal to at least the fraction `p` of all samples.
    """
    return ranked[max(1, math.ceil(round(p * len(ranked), 9))) - 1]


@lru_cache(maxsize=1024)
def bound_rank(count: int, p: float) -> int:
    """Return the rank of the sample that is an upper bound of a percentile with 99% confidence.

    The number X of samples above the true percentile has a binomial distribution. The result is the
    largest t with P(X <= t) <= 1%. More than t samples are then above the percentile with at least
    99% confidence, and so is the t-th highest one. LoadGen uses the same t.

    Args:
        count: Number of samples.
        p: The percentile as a fraction, 0 to 1.

    Returns:
        The rank t, 1 for the highest sample; 0 if no sample is such a bound.
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


def ratio_interval(timing: Timing, reference: Timing) -> RatioInterval:
    """Divide the latency of one workload by that of another, with a 95% confidence interval.

    The interval is that of the sign test: its ends are two of the sorted ratios of the rounds, and
    it assumes nothing about the distribution of latencies. Fewer than six rounds cannot give 95%
    confidence; the interval then reaches from the lowest to the highest ratio.

    Args:
        timing: Latencies of the workload.
        reference: Latencies of the reference workload, from the same call of `run_interleaved`.

    Returns:
        The median of `ratios_by_round` and its interval; the median is below 1 if the workload is
        faster than the reference.
    """
    ratios = sorted(ratios_by_round(timing, reference))
    count = len(ratios)
    skipped, tail_probability = 0, 0.5**count
    while tail_probability <= (1 - RATIO_CONFIDENCE) / 2:
        skipped += 1
        tail_probability += math.comb(count, skipped) * 0.5**count
    skipped = max(0, skipped - 1)
    return RatioInterval(statistics.median(ratios), ratios[skipped], ratios[count - 1 - skipped])
