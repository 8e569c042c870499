"""A runtime whose times are known, on a clock of the test's own, is measured right in every scenario and at every percentile."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator
from itertools import chain, cycle, repeat

import pytest

from tinyvit.bench.latency.interleave import Timing
from tinyvit.bench.latency.percentiles import (
    MIN_SAMPLES_ABOVE,
    percentile,
    ratio_interval,
    samples_above,
    summarize,
)
from tinyvit.bench.latency.scenarios import find_highest_rate, run_back_to_back, run_server, warm_up


class FakeClock:
    """Stands still but for what is slept and what queries take."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.seconds += seconds

    def query(self, times_ms: Iterator[float]):  # type: ignore[no-untyped-def]
        """One that takes the next of these times."""

        def run() -> None:
            self.seconds += next(times_ms) / 1e3

        return run


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_every_percentile_of_known_times(clock: FakeClock) -> None:
    times = [float(i) for i in range(1, 1001)]
    random.Random(0).shuffle(times)
    found = summarize(
        run_back_to_back({"a": clock.query(iter(times))}, 996, 1e9, clock)["a"].samples_ms
        + tuple(times[996:])
    )
    wanted = {
        "samples": 1000,
        "min_ms": 1,
        "median_ms": 500.5,
        "mean_ms": 500.5,
        "max_ms": 1000,
        "p90_ms": 900,
        "p99_ms": 990,
    }
    assert {key: getattr(found, key) for key in wanted} == pytest.approx(wanted)
    assert found.p99_bound_ms == pytest.approx(
        999
    )  # of 1000 runs, the second slowest: P(Bin(1000, 0.01) <= 2) is 0.3%, <= 3 is 1%
    assert found.p90_bound_ms == pytest.approx(1000 - samples_above(1000, 0.9) + 1)


def test_the_worst_run_is_not_clipped(clock: FakeClock) -> None:
    found = summarize(
        run_back_to_back(
            {"a": clock.query(chain(repeat(1.0, 50), [900.0], repeat(1.0)))}, 96, 60, clock
        )["a"].samples_ms
    )
    assert (found.max_ms, found.median_ms) == pytest.approx((900, 1))


@pytest.mark.parametrize(("p", "name"), [(0.9, "p90"), (0.99, "p99")])
def test_a_percentile_is_withheld_of_too_few_runs(p: float, name: str) -> None:
    enough = MIN_SAMPLES_ABOVE[p]
    assert samples_above(enough, p) == 1
    assert samples_above(enough - 1, p) == 0
    few, many = summarize([1.0] * (enough - 1)), summarize([1.0] * enough)
    assert (getattr(few, f"{name}_ms"), getattr(few, f"{name}_bound_ms")) == (None, None)
    assert (getattr(many, f"{name}_ms"), getattr(many, f"{name}_bound_ms")) == (1.0, 1.0)


def test_a_bound_holds_99_times_in_100() -> None:
    draw = random.Random(1)
    true_p90 = 0.9
    missed = sum(
        (summarize([draw.random() for _ in range(200)]).p90_bound_ms or 0) < true_p90
        for _ in range(2000)
    )
    assert missed <= 2000 * 0.01 * 1.5


def test_the_nearest_rank() -> None:
    assert percentile([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0.9) == 9
    assert percentile([7], 0.99) == 7


def test_turns_alternate_and_their_first_query_is_not_counted(clock: FakeClock) -> None:
    order: list[str] = []

    def query(name: str, times: Iterator[float]):  # type: ignore[no-untyped-def]
        run = clock.query(times)
        return lambda: (order.append(name), run())

    cold = chain.from_iterable(repeat((50.0, *(2.0,) * 11)))
    found = run_back_to_back({"a": query("a", cold), "b": query("b", repeat(4.0))}, 44, 60, clock)
    assert order == (["a"] * 12 + ["b"] * 12) * 4
    assert found["a"].samples_ms == pytest.approx([2] * 44)
    one = ratio_interval(found["a"], found["b"])
    assert (one.median, one.low, one.high) == pytest.approx((0.5, 0.5, 0.5))


def test_the_budget_ends_a_slow_file(clock: FakeClock) -> None:
    found = run_back_to_back({"a": clock.query(repeat(1000.0))}, 662, 100, clock)["a"]
    assert len(found.samples_ms) < 130


def test_an_interval_holds_the_true_ratio_95_times_in_100() -> None:
    draw = random.Random(2)

    def timing(scale: float, drift: list[float]) -> Timing:
        return Timing(
            tuple(tuple(scale * d * draw.lognormvariate(0, 0.1) for _ in range(5)) for d in drift)
        )

    missed = 0
    for _ in range(400):
        drift = [draw.uniform(1, 3) for _ in range(20)]
        found = ratio_interval(timing(1.0, drift), timing(2.0, drift))
        missed += not found.low <= 0.5 <= found.high
    assert missed <= 400 * 0.05 * 1.4


def test_warm_up_ends_where_it_is_steady(clock: FakeClock) -> None:
    falling = chain((100.0 * 0.9**i + 10 for i in range(40)), repeat(10.0))
    done = warm_up(clock.query(falling), clock)
    assert done.is_steady
    assert 40 < done.queries < 80
    assert not warm_up(clock.query(1.1**i for i in range(1000)), clock, 1e9).is_steady


def test_a_server_that_keeps_up_is_waited_for_rarely(clock: FakeClock) -> None:
    times = run_server(clock.query(repeat(1.0)), 10, 700, clock).samples_ms
    assert statistics.median(times) == pytest.approx(1)
    assert max(times) < 10
    assert clock.seconds - 100 == pytest.approx(70, rel=0.1)


def test_a_server_that_cannot_keep_up_falls_behind(clock: FakeClock) -> None:
    times = run_server(clock.query(repeat(20.0)), 100, 200, clock).samples_ms
    assert times[-1] == pytest.approx(200 * (20 - 10), rel=0.25)


def test_waiting_is_as_queueing_theory_has_it(clock: FakeClock) -> None:
    # M/D/1 at half load: the mean wait is half a service time (Pollaczek and Khinchine).
    times = run_server(clock.query(repeat(10.0)), 50, 20_000, clock).samples_ms
    assert statistics.fmean(times) == pytest.approx(15, rel=0.05)


def test_the_highest_rate_meets_its_bound_and_a_higher_one_does_not(clock: FakeClock) -> None:
    found = find_highest_rate(clock.query(repeat(10.0)), 40, 662, clock)
    assert found is not None
    rate, times = found
    assert 40 < rate < 100
    assert (summarize(times.samples_ms).p99_bound_ms or 1e9) <= 40
    assert (
        summarize(
            run_server(clock.query(repeat(10.0)), rate * 1.1, 662, clock).samples_ms
        ).p99_bound_ms
        or 0
    ) > 40


def test_a_bound_below_one_answer_is_met_at_no_rate(clock: FakeClock) -> None:
    assert find_highest_rate(clock.query(cycle([10.0])), 9, 662, clock) is None
