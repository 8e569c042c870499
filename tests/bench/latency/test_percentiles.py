"""Percentiles, their upper bounds and the intervals of ratios agree with known distributions."""

from __future__ import annotations

import random

import pytest

from tinyvit.bench.latency.interleave import Timing
from tinyvit.bench.latency.percentiles import (
    MIN_SAMPLES,
    RatioInterval,
    bound_rank,
    percentile,
    ratio_interval,
    summarize,
)
from tinyvit.bench.report.tables import format_ratio


def test_every_statistic_of_known_times() -> None:
    times_ms = [float(i) for i in range(1, 1001)]
    random.Random(0).shuffle(times_ms)
    summary = summarize(times_ms)
    expected = {
        "sample_count": 1000,
        "min_ms": 1,
        "median_ms": 500.5,
        "mean_ms": 500.5,
        "max_ms": 1000,
        "p90_ms": 900,
        "p99_ms": 990,
    }
    assert {key: getattr(summary, key) for key in expected} == pytest.approx(expected)
    # The second highest of 1000: P(Bin(1000, 0.01) <= 2) is 0.3%, and P(... <= 3) is 1%.
    assert summary.p99_bound_ms == pytest.approx(999)
    assert summary.p90_bound_ms == pytest.approx(1000 - bound_rank(1000, 0.9) + 1)


@pytest.mark.parametrize(("p", "name"), [(0.9, "p90"), (0.99, "p99")])
def test_percentile_is_withheld_for_too_few_samples(p: float, name: str) -> None:
    minimum = MIN_SAMPLES[p]
    assert bound_rank(minimum, p) == 1
    assert bound_rank(minimum - 1, p) == 0
    few, enough = summarize([1.0] * (minimum - 1)), summarize([1.0] * minimum)
    assert (getattr(few, f"{name}_ms"), getattr(few, f"{name}_bound_ms")) == (None, None)
    assert (getattr(enough, f"{name}_ms"), getattr(enough, f"{name}_bound_ms")) == (1.0, 1.0)


def test_minimum_numbers_of_samples_are_those_of_loadgen() -> None:
    assert MIN_SAMPLES == {0.9: 64, 0.99: 662}


@pytest.mark.parametrize(
    ("count", "p", "rank"),
    [(10_000, 0.9, 930), (10_000, 0.99, 77), (1_000_000, 0.9, 99_302), (1_000_000, 0.99, 9_768)],
)
@pytest.mark.timeout(20)
def test_bound_of_many_samples(count: int, p: float, rank: int) -> None:
    # scipy.stats.binom.cdf(rank, count, 1 - p) is at most 0.01, and that of rank + 1 is above it.
    assert bound_rank(count, p) == rank


def test_upper_bound_is_right_99_times_in_100() -> None:
    draw = random.Random(1)
    true_p90 = 0.9
    misses = sum(
        (summarize([draw.random() for _ in range(200)]).p90_bound_ms or 0) < true_p90
        for _ in range(2000)
    )
    assert misses <= 2000 * 0.01 * 1.5


def test_percentile_is_the_nearest_rank() -> None:
    assert percentile([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0.9) == 9
    assert percentile([7], 0.99) == 7


def test_ratio_interval_contains_the_true_ratio_95_times_in_100() -> None:
    draw = random.Random(2)

    def draw_timing(scale: float, paces: list[float]) -> Timing:
        return Timing(
            tuple(
                tuple(scale * pace * draw.lognormvariate(0, 0.1) for _ in range(5))
                for pace in paces
            )
        )

    misses = 0
    for _ in range(400):
        paces = [draw.uniform(1, 3) for _ in range(20)]
        interval = ratio_interval(draw_timing(1.0, paces), draw_timing(2.0, paces))
        assert interval.low is not None
        assert interval.high is not None
        misses += not interval.low <= 0.5 <= interval.high
    assert misses <= 400 * 0.05 * 1.4


@pytest.mark.parametrize(("rounds", "low"), [(20, 6), (1_000, 469), (1_100, 518), (5_000, 2_431)])
def test_ratio_interval_of_many_rounds(rounds: int, low: int) -> None:
    # scipy.stats.binom.cdf(low - 1, rounds, 0.5) is at most 0.025, and that of low is above it.
    timing = Timing(tuple((float(ratio),) for ratio in range(1, rounds + 1)))
    interval = ratio_interval(timing, Timing(((1.0,),) * rounds))
    assert interval == RatioInterval((rounds + 1) / 2, low=low, high=rounds + 1 - low)


def test_fewer_than_six_turns_have_a_ratio_without_an_interval() -> None:
    timing, reference = Timing(((1.0,), (2.0,)) * 3), Timing(((2.0,),) * 6)
    assert ratio_interval(timing, reference) == RatioInterval(0.75, low=0.5, high=1.0)
    for turns in (1, 2, 5):
        found = ratio_interval(Timing(timing.turns_ms[:turns]), Timing(reference.turns_ms[:turns]))
        assert (found.low, found.high) == (None, None)
    assert format_ratio(found) == "0.50 (interval withheld: needs 6 turns or more)"
