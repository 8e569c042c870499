"""Computes percentiles of latencies with upper bounds, and confidence intervals of ratios.

A 99th percentile cannot be estimated from a few samples, because the slowest runs may not be among
them. LoadGen, the load generator of MLPerf Inference, therefore reports a percentile only if there
is a minimum number of samples. It also reports an upper bound: with 99% confidence, the percentile
is below this bound. This module uses the same minimum numbers, and `bound_rank` finds the same
bound (loadgen/early_stopping.cc in https://github.com/mlcommons/inference).
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
"""Percentile as a fraction -> minimum number of samples for reporting it. With this number,
LoadGen's rule takes the highest sample as the upper bound of the percentile (`bound_rank` is 1);
with fewer samples, the rule gives no bound."""
MIN_TURNS = 6
"""Minimum number of turns that each workload must have for the interval of a ratio. Two workloads
that take turns give one ratio per round, so this is also the minimum number of ratios: with fewer,
even the range from the lowest to the highest ratio has less than 95% confidence."""


@dataclass(frozen=True)
class Summary:
    """Statistics of latencies in milliseconds, computed from all samples.

    Attributes:
        sample_count: Number of samples.
        min_ms: Lowest sample.
        median_ms: Median.
        mean_ms: Arithmetic mean.
        max_ms: Highest sample.
        p90_ms: 90th percentile (nearest rank); None for fewer than `MIN_SAMPLES[0.9]` samples.
        p99_ms: 99th percentile (nearest rank); None for fewer than `MIN_SAMPLES[0.99]` samples.
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
    ascending_ms = sorted(times_ms)
    count = len(ascending_ms)
    has_p90, has_p99 = count >= MIN_SAMPLES[0.9], count >= MIN_SAMPLES[0.99]
    return Summary(
        sample_count=count,
        min_ms=ascending_ms[0],
        median_ms=statistics.median(ascending_ms),
        mean_ms=statistics.fmean(ascending_ms),
        max_ms=ascending_ms[-1],
        p90_ms=percentile(ascending_ms, 0.9) if has_p90 else None,
        p99_ms=percentile(ascending_ms, 0.99) if has_p99 else None,
        p90_bound_ms=ascending_ms[count - bound_rank(count, 0.9)] if has_p90 else None,
        p99_bound_ms=ascending_ms[count - bound_rank(count, 0.99)] if has_p99 else None,
    )


def percentile(ascending: Sequence[float], p: float) -> float:
    """Return a percentile by the nearest-rank method.

    Args:
        ascending: Samples in ascending order.
        p: The percentile as a fraction, 0 to 1.

    Returns:
        The lowest sample such that at least the fraction `p` of all samples are not higher.
    """
    # Rounding corrects products such as 0.07 * 100, which is slightly more than 7 in float64.
    rank = max(1, math.ceil(round(p * len(ascending), 9)))
    return ascending[rank - 1]


@lru_cache(maxsize=1024)
def bound_rank(count: int, p: float) -> int:
    """Return the rank of the sample that is an upper bound of a percentile with 99% confidence.

    The number X of samples above the true percentile has a binomial distribution. The result is the
    largest t with P(X <= t) <= 1%. With at least 99% confidence, more than t samples are then above
    the percentile, so the t-th highest sample is above it. The sample below that one, of rank
    t + 1, would be a bound too, but LoadGen takes the t-th.

    Args:
        count: Number of samples.
        p: The percentile as a fraction, 0 to 1.

    Returns:
        The rank t, counted from the highest sample, which has rank 1; 0 if there are too few
        samples for this rule.
    """
    return max(0, _binomial_quantile(count, 1 - p, 1 - BOUND_CONFIDENCE))


@dataclass(frozen=True)
class RatioInterval:
    """A ratio of two latencies with its 95% confidence interval.

    Attributes:
        median: The ratio: the median of the ratios of all rounds (see `interleave`).
        low: Lower end of the interval; None for fewer than `MIN_TURNS` rounds, in each of which
            both workloads have one turn.
        high: Upper end of the interval; None if `low` is.
    """

    median: float
    low: float | None
    high: float | None


def ratio_interval(timing: Timing, reference: Timing) -> RatioInterval:
    """Divide the latency of one workload by that of another, with a 95% confidence interval.

    Each round of the measurement, with one turn of each workload, gives one ratio. The ends of the
    interval are the k-th lowest and the k-th highest of these ratios. The sign test determines k,
    and assumes nothing about the distribution of latencies. Fewer than `MIN_TURNS` ratios cannot
    give 95% confidence, so that there is no interval then.

    Args:
        timing: Latencies of the workload.
        reference: Latencies of the reference workload, measured in the same rounds.

    Returns:
        The median of `ratios_by_round` and its interval; the median is below 1 if the workload is
        faster than the reference.
    """
    ratios = sorted(ratios_by_round(timing, reference))
    count = len(ratios)
    if count < MIN_TURNS:
        return RatioInterval(statistics.median(ratios), low=None, high=None)
    # Each ratio is below the true median with a probability of 1/2. At each end, so many ratios are
    # left out of the interval that the true median is beyond that end in at most 2.5% of all cases.
    skipped_per_end = max(0, _binomial_quantile(count, 0.5, (1 - RATIO_CONFIDENCE) / 2))
    return RatioInterval(
        median=statistics.median(ratios),
        low=ratios[skipped_per_end],
        high=ratios[count - 1 - skipped_per_end],
    )


def _binomial_quantile(trials: int, chance: float, limit: float) -> int:
    """Return the largest k for which at most k successes have a probability of at most `limit`.

    Args:
        trials: Number of independent trials.
        chance: Probability of a success in one trial.
        limit: Largest probability of at most k successes, below 1.

    Returns:
        The number k; -1 if even no success is more probable than `limit`.
    """
    # Logarithms, because the probability of no success underflows to 0 for 10,000 trials.
    successes, log_probability = 0, trials * math.log1p(-chance)
    cumulative = math.exp(log_probability)
    while cumulative <= limit:
        successes += 1
        growth = (trials - successes + 1) / successes * chance / (1 - chance)
        log_probability += math.log(growth)
        cumulative += math.exp(log_probability)
    return successes - 1
