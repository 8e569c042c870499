"""The scenarios of MLPerf Inference: how queries arrive, and the latency of each query.

single-stream  one image per query; the next query starts when the last one is answered
multi-stream   eight images per query; the next query starts when the last one is answered
offline        several images per query, back to back; the result of interest is the throughput
server         one image per query; queries arrive at random times, even while the last one is not
               answered yet, and the latency includes the time that a query waits

`Query` is a callable without arguments; each call runs one query. All functions take a clock, so
that tests can pass a fake one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol, TypeAlias

import numpy as np

from tinyvit.bench.latency.interleave import Timing, TurnPlan, run_turns
from tinyvit.bench.latency.percentiles import MIN_SAMPLES, bound_rank, summarize

Query: TypeAlias = "Callable[[], object]"

IMAGES_PER_QUERY = {"single-stream": 1, "multi-stream": 8, "server": 1, "offline": 8}
"""Scenario -> default number of images per query."""

_QUERIES_PER_TURN = 12
"""Queries that a workload answers in a row before the next workload's turn."""
_WARMUP_WINDOW = 8
"""Queries in a window; the warm-up compares the medians of two successive windows."""
_WARMUP_TOLERANCE = 0.03
"""The warm-up ends when the two medians differ by at most this fraction."""
_MAX_WARMUP_QUERIES = 240
_ARRIVAL_SEED = 0
"""Seed of the random arrival times of the scenario server."""
_SEARCH_STEPS = 8
"""Steps of the bisection for the highest rate; they narrow the range to 1/256."""
_SEARCH_RUNS = 64
"""Queries that are run back to back to measure the upper end of the range."""


class Clock(Protocol):
    """The clock of a measurement."""

    def now(self) -> float:
        """Return the current time in seconds; the starting point is arbitrary."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for a number of seconds."""
        ...


class WallClock:
    """The clock of the machine."""

    def now(self) -> float:
        """Return the current time in seconds; the starting point is arbitrary."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        """Wait for a number of seconds."""
        time.sleep(seconds)


@dataclass(frozen=True)
class Warmup:
    """The outcome of a warm-up.

    Attributes:
        queries: Number of queries that were run.
        is_steady: Whether the latency had settled at the end.
    """

    queries: int
    is_steady: bool


def warm_up(query: Query, clock: Clock, seconds: float = 20) -> Warmup:
    """Repeat a query until its latency has settled.

    Args:
        query: The query to repeat, at least twice and at most 240 times.
        clock: The clock for timing.
        seconds: Time after which the warm-up ends even if the latency has not settled.
    """
    start_s, times_s = clock.now(), list[float]()
    while len(times_s) < _MAX_WARMUP_QUERIES and (
        clock.now() - start_s < seconds or len(times_s) < 2
    ):
        before_s = clock.now()
        query()
        times_s.append(clock.now() - before_s)
        last, previous = times_s[-_WARMUP_WINDOW:], times_s[-2 * _WARMUP_WINDOW : -_WARMUP_WINDOW]
        if len(previous) == _WARMUP_WINDOW:
            median_s, previous_s = statistics.median(last), statistics.median(previous)
            if abs(median_s - previous_s) <= _WARMUP_TOLERANCE * previous_s:
                return Warmup(len(times_s), True)
    return Warmup(len(times_s), False)


def run_back_to_back(
    queries: Mapping[str, Query], runs: int, seconds: float, clock: Clock
) -> dict[str, Timing]:
    """Time queries in the scenarios single-stream, multi-stream and offline.

    Several workloads alternate. The first query of each turn is then discarded, because the caches
    still hold the data of the previous workload, whose threads may still occupy the cores.

    Args:
        queries: The query of each workload, by name.
        runs: Queries to time per workload; the last turn may add a few.
        seconds: Time limit per workload; it may end the timing before `runs` queries.
        clock: The clock for timing.

    Returns:
        The latencies of each workload, by name.
    """
    skipped_runs = 1 if len(queries) > 1 else 0
    queries_per_turn = min(_QUERIES_PER_TURN, runs + skipped_runs)
    rounds = -(-runs // (queries_per_turn - skipped_runs))
    plan = TurnPlan(
        rounds, queries_per_turn, skipped_runs=skipped_runs, budget_s=seconds * len(queries)
    )
    return run_turns(queries, plan, clock.now)


def run_server(
    query: Query,
    rate: float,
    query_count: int,
    clock: Clock,
    *,
    give_up_ms: float | None = None,
) -> Timing:
    """Time queries in the scenario server: they arrive in a Poisson process.

    Queries are answered one after the other, in the order of arrival.

    Args:
        query: The query to repeat.
        rate: Mean arrival rate in queries per second.
        query_count: Number of queries.
        clock: The clock for timing.
        give_up_ms: Limit of the 99th percentile. Timing ends early once so many queries took longer
            that the limit cannot be met. None to time all queries.

    Returns:
        The latencies as one turn, each from the arrival of the query to its answer.
    """
    misses_left = bound_rank(query_count, 0.99)
    gaps_s = np.random.default_rng(_ARRIVAL_SEED).exponential(1 / rate, query_count - 1)
    start_s, times_ms = clock.now(), list[float]()
    for arrival_s in accumulate(gaps_s.tolist(), initial=0.0):
        if (wait_s := start_s + arrival_s - clock.now()) > 0:
            clock.sleep(wait_s)
        query()
        times_ms.append((clock.now() - start_s - arrival_s) * 1e3)
        if give_up_ms is not None and times_ms[-1] > give_up_ms:
            misses_left -= 1
            if misses_left <= 0:
                break
    return Timing((tuple(times_ms),))


def find_highest_rate(
    query: Query, p99_ms: float, query_count: int, clock: Clock
) -> tuple[float, Timing] | None:
    """Search for the highest arrival rate that keeps the 99th percentile below a limit.

    The search bisects the range up to the rate at which queries are answered back to back.

    Args:
        query: The query to repeat.
        p99_ms: Limit that the 99th percentile must not exceed, with 99% confidence.
        query_count: Queries per step; raised to `MIN_SAMPLES[0.99]` if it is lower.
        clock: The clock for timing.

    Returns:
        The rate in queries per second and the latencies at it; None if no rate of the search meets
        the limit.
    """
    query_count = max(query_count, MIN_SAMPLES[0.99])
    timing = run_back_to_back({"": query}, _SEARCH_RUNS, 60, clock)[""]
    low, high = 0.0, 1e3 / max(timing.median_ms, 1e-6)
    best: tuple[float, Timing] | None = None
    for _ in range(_SEARCH_STEPS):
        rate = (low + high) / 2
        timing = run_server(query, rate, query_count, clock, give_up_ms=p99_ms)
        bound_ms = summarize(timing.samples_ms).p99_bound_ms
        is_complete = len(timing.samples_ms) == query_count
        if is_complete and bound_ms is not None and bound_ms <= p99_ms:
            low, best = rate, (rate, timing)
        else:
            high = rate
    return best
