"""Workloads with known latencies alternate, and their latencies are measured exactly."""

from __future__ import annotations

from itertools import repeat

import pytest

from tests.helpers.clocks import FakeClock
from tinyvit.bench.latency.interleave import Timing, median_ratio, run_interleaved


@pytest.fixture
def clock() -> FakeClock:
    """A clock that only the test moves."""
    return FakeClock()


def test_workloads_alternate(clock: FakeClock) -> None:
    timings = run_interleaved(
        {"a": clock.make_query(repeat(3), "a"), "b": clock.make_query(repeat(5), "b")},
        rounds=4,
        warmup=1,
        clock=clock.now,
    )
    assert clock.log == ["a", "b"] * 5
    assert timings["a"].samples_ms == pytest.approx([3] * 4)
    assert timings["b"].median_ms == pytest.approx(5)
    assert median_ratio(timings["a"], timings["b"]) == pytest.approx(0.6)


def test_warmup_and_first_run_of_a_turn_are_discarded(clock: FakeClock) -> None:
    query = clock.make_query([100, 100, 100, 50, 2, 2, 50, 2, 2])
    timings = run_interleaved({"a": query}, rounds=2, warmup=1, runs_per_turn=3, clock=clock.now)
    assert timings["a"].turns_ms == (pytest.approx((2, 2)), pytest.approx((2, 2)))


@pytest.mark.parametrize(
    ("warmup", "budget_s", "count"), [(1, 0.5, 3), (0, 10.5, 11)], ids=["minimum", "budget"]
)
def test_budget_ends_early_but_not_before_three_rounds(
    warmup: int, budget_s: float, count: int, clock: FakeClock
) -> None:
    timings = run_interleaved(
        {"a": clock.make_query(repeat(1000))},
        rounds=50,
        warmup=warmup,
        budget_s=budget_s,
        clock=clock.now,
    )
    assert len(timings["a"].samples_ms) == count


def test_ratio_is_right_on_a_machine_whose_speed_changes() -> None:
    timing = Timing(((9,), (9,), (18,), (18,), (18,)))
    reference = Timing(((10,), (10,), (20,), (20,), (20,)))
    assert median_ratio(timing, reference) == pytest.approx(0.9)
