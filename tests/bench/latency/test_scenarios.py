"""Known latencies on a fake clock are measured exactly in every scenario."""

from __future__ import annotations

import random
import statistics
from itertools import chain, cycle, repeat

import pytest

from tests.helpers.clocks import FakeClock
from tinyvit.bench.latency.percentiles import ratio_interval, summarize
from tinyvit.bench.latency.scenarios import find_highest_rate, run_back_to_back, run_server, warm_up


@pytest.fixture
def clock() -> FakeClock:
    """A clock that only the test moves."""
    return FakeClock()


def test_all_latencies_are_samples(clock: FakeClock) -> None:
    times_ms = [float(i) for i in range(1, 1001)]
    random.Random(0).shuffle(times_ms)
    timings = run_back_to_back({"a": clock.make_query(times_ms)}, 996, 1e9, clock)
    assert timings["a"].samples_ms == pytest.approx(times_ms[:996])


def test_the_slowest_run_is_not_left_out(clock: FakeClock) -> None:
    query = clock.make_query(chain(repeat(1.0, 50), [900.0], repeat(1.0)))
    summary = summarize(run_back_to_back({"a": query}, 96, 60, clock)["a"].samples_ms)
    assert (summary.max_ms, summary.median_ms) == pytest.approx((900, 1))


def test_turns_alternate_and_their_first_query_is_discarded(clock: FakeClock) -> None:
    slow_first = chain.from_iterable(repeat((50.0, *(2.0,) * 11)))
    queries = {"a": clock.make_query(slow_first, "a"), "b": clock.make_query(repeat(4.0), "b")}
    timings = run_back_to_back(queries, 66, 60, clock)
    assert clock.log == (["a"] * 12 + ["b"] * 12) * 6
    assert timings["a"].samples_ms == pytest.approx([2] * 66)
    interval = ratio_interval(timings["a"], timings["b"])
    assert (interval.median, interval.low, interval.high) == pytest.approx((0.5, 0.5, 0.5))


def test_time_limit_ends_a_slow_workload(clock: FakeClock) -> None:
    timings = run_back_to_back({"a": clock.make_query(repeat(1000.0))}, 662, 100, clock)
    assert len(timings["a"].samples_ms) < 130


def test_warmup_ends_when_the_latency_has_settled(clock: FakeClock) -> None:
    falling = chain((100.0 * 0.9**i + 10 for i in range(40)), repeat(10.0))
    warmup = warm_up(clock.make_query(falling), clock)
    assert warmup.is_steady
    assert 40 < warmup.queries < 80
    rising = clock.make_query(1.1**i for i in range(1000))
    assert not warm_up(rising, clock, 1e9).is_steady


def test_queries_rarely_wait_for_a_server_that_keeps_up(clock: FakeClock) -> None:
    times_ms = run_server(clock.make_query(repeat(1.0)), 10, 700, clock).samples_ms
    assert statistics.median(times_ms) == pytest.approx(1)
    assert max(times_ms) < 10
    assert clock.seconds - 100 == pytest.approx(70, rel=0.1)


def test_queue_grows_at_a_server_that_cannot_keep_up(clock: FakeClock) -> None:
    times_ms = run_server(clock.make_query(repeat(20.0)), 100, 200, clock).samples_ms
    assert times_ms[-1] == pytest.approx(200 * (20 - 10), rel=0.25)


def test_waiting_time_agrees_with_queueing_theory(clock: FakeClock) -> None:
    # M/D/1 at half load: the mean wait is half a service time (Pollaczek and Khinchine).
    times_ms = run_server(clock.make_query(repeat(10.0)), 50, 20_000, clock).samples_ms
    assert statistics.fmean(times_ms) == pytest.approx(15, rel=0.05)


def test_highest_rate_meets_its_limit_and_a_higher_rate_does_not(clock: FakeClock) -> None:
    query = clock.make_query(repeat(10.0))
    best = find_highest_rate(query, 40, 662, clock)
    assert best is not None
    rate, timing = best
    assert 40 < rate < 100
    assert (summarize(timing.samples_ms).p99_bound_ms or 1e9) <= 40
    too_fast = run_server(query, rate * 1.1, 662, clock)
    assert (summarize(too_fast.samples_ms).p99_bound_ms or 0) > 40


def test_limit_below_one_inference_is_met_at_no_rate(clock: FakeClock) -> None:
    assert find_highest_rate(clock.make_query(cycle([10.0])), 9, 662, clock) is None


def test_the_progress_of_rounds_is_reported() -> None:
    clock, reports = FakeClock(), []
    run_back_to_back(
        {"a": clock.make_query(repeat(1.0))},
        96,
        60,
        clock,
        lambda done, total: reports.append((done, total)),
    )
    assert [total for _, total in reports] == [100] * 9
    assert [done for done, _ in reports] == [12, 25, 37, 50, 62, 75, 87, 99, 100]


def test_the_progress_of_time_is_reported_if_time_is_short() -> None:
    clock, reports = FakeClock(), []
    # 12 queries of a second are a turn, and 40 s are 3 turns and a third.
    run_back_to_back(
        {"a": clock.make_query(repeat(1000.0))},
        1200,
        40,
        clock,
        lambda *report: reports.append(report),
    )
    assert [done for done, _ in reports] == [30, 60, 90, 100]


def test_the_progress_of_the_search_is_reported_for_each_query() -> None:
    clock, reports = FakeClock(), []
    best = find_highest_rate(
        clock.make_query(cycle([10.0])),
        40,
        662,
        clock,
        lambda done, total: reports.append((done, total)),
    )
    assert best is not None
    counts = [done for done, _ in reports]
    # The first 64 queries are back to back, in turns of 12, to find the upper end of the range.
    assert counts[:9] == [10, 21, 32, 42, 53, 63, 64, 65, 66]
    assert counts == sorted(counts)
    total_count = 64 + 8 * 662
    assert reports[-1] == (total_count, total_count)
    assert {total for _, total in reports} == {total_count}
