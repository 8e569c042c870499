"""Times queries in the scenarios of MLPerf Inference, which differ in when each query starts.

single-stream  one image per query; the next query starts when the previous one is answered
multi-stream   eight images per query; the next query starts when the previous one is answered
offline        several images per query, back to back; the result of interest is the throughput
server         one image per query; queries arrive at random times, even while the previous one is
               not answered yet, and the latency includes the time that a query waits

A `Query` is a function without arguments; each call answers one query. All functions take a clock,
so that tests can pass a fake one.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, Protocol

import numpy as np

from tinyvit.bench.latency.interleave import (
    Reporter,
    Timing,
    TurnPlan,
    ignore_report,
    run_plan,
)
from tinyvit.bench.latency.percentiles import MIN_SAMPLES, bound_rank, summarize
from tinyvit.bench.latency.queries import Query

IMAGES_PER_QUERY = {"single-stream": 1, "multi-stream": 8, "server": 1, "offline": 8}
"""Scenario -> default number of images per query."""

QUERIES_PER_TURN = 12
"""Queries that an artifact answers in a row before the next artifact's turn."""

_WARMUP_WINDOW = 8
"""Number of queries in a window; the warm-up compares the medians of two successive windows."""
_WARMUP_TOLERANCE = 0.03
"""The warm-up ends when the two medians differ by at most this fraction."""
_MIN_WARMUP_QUERIES = 2
"""The first query is slow, because the engine still allocates memory; a second one always runs."""
_MAX_WARMUP_QUERIES = 240
_ARRIVAL_SEED = 0
"""Seed of the random arrival times of the scenario server."""
_SEARCH_STEPS = 8
"""Steps of the bisection for the highest rate; they narrow the range to 1/256 of its width."""
_PEAK_RATE_QUERIES = 64
"""Queries that are run back to back to measure the upper end of the range."""
_PEAK_RATE_SECONDS = 60
"""Time limit of the `_PEAK_RATE_QUERIES` together."""


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


class ServerTiming(NamedTuple):
    """The latencies in the scenario server at one arrival rate.

    Attributes:
        queries_per_s: Mean arrival rate.
        timing: The latencies, each from the arrival of a query to its answer.
    """

    queries_per_s: float
    timing: Timing


def warm_up(query: Query, clock: Clock, max_seconds: float = 20) -> Warmup:
    """Repeat a query until its latency has settled.

    Args:
        query: The query to repeat, at least twice and at most 240 times.
        clock: The clock for timing.
        max_seconds: Time after which the warm-up ends even if the latency has not settled.
    """
    start_s, times_s = clock.now(), list[float]()
    while len(times_s) < _MAX_WARMUP_QUERIES:
        is_out_of_time = clock.now() - start_s >= max_seconds
        if is_out_of_time and len(times_s) >= _MIN_WARMUP_QUERIES:
            break
        before_s = clock.now()
        query()
        times_s.append(clock.now() - before_s)
        if _has_settled(times_s):
            return Warmup(len(times_s), is_steady=True)
    return Warmup(len(times_s), is_steady=False)


def _has_settled(times_s: list[float]) -> bool:
    """Return whether the medians of the last two windows are about equal."""
    if len(times_s) < 2 * _WARMUP_WINDOW:
        return False
    last_s = statistics.median(times_s[-_WARMUP_WINDOW:])
    previous_s = statistics.median(times_s[-2 * _WARMUP_WINDOW : -_WARMUP_WINDOW])
    return abs(last_s - previous_s) <= _WARMUP_TOLERANCE * previous_s


def run_back_to_back(
    queries: Mapping[str, Query],
    query_count: int,
    seconds: float,
    clock: Clock,
    report: Reporter = ignore_report,
) -> dict[str, Timing]:
    """Time queries in the scenarios single-stream, multi-stream and offline.

    Several artifacts alternate in turns of `QUERIES_PER_TURN`. The first query of each turn is then
    discarded, because the caches still hold the data of the previous artifact, and threads of its
    engine may still occupy the cores.

    Args:
        queries: The query of each artifact, by name.
        query_count: Number of queries to time per artifact. A number above 12 is rounded up to a
            multiple of 12. If several artifacts alternate, a number above 11 is rounded up to a
            multiple of 11 instead.
        seconds: Time limit per artifact. It may end the timing before `query_count` queries, but
            not before each artifact had three turns.
        clock: The clock for timing.
        report: Called between the turns; see `run_plan`.

    Returns:
        The latencies of each artifact, by name.
    """
    skipped_per_turn = 1 if len(queries) > 1 else 0
    queries_per_turn = min(QUERIES_PER_TURN, query_count + skipped_per_turn)
    timed_per_turn = queries_per_turn - skipped_per_turn
    plan = TurnPlan(
        rounds=math.ceil(query_count / timed_per_turn),
        runs_per_turn=queries_per_turn,
        skipped_runs=skipped_per_turn,
        budget_s=seconds * len(queries),
    )
    return run_plan(queries, plan, clock.now, report)


def run_server(
    query: Query,
    queries_per_s: float,
    query_count: int,
    clock: Clock,
    *,
    p99_limit_ms: float | None = None,
    report: Reporter = ignore_report,
) -> Timing:
    """Time queries in the scenario server: they arrive in a Poisson process.

    Queries are answered one after the other, in the order of arrival.

    Args:
        query: The query to repeat.
        queries_per_s: Mean arrival rate.
        query_count: Number of queries.
        clock: The clock for timing.
        p99_limit_ms: Limit of the 99th percentile. The run ends early as soon as so many queries
            took longer than this limit that the upper bound of the percentile is certain to exceed
            it. None to run all queries.
        report: Called after each query with the number of finished queries and of all.

    Returns:
        The latencies as one turn, each from the arrival of the query to its answer.
    """
    # The upper bound of the 99th percentile is the sample of rank `bound_rank`, counted from the
    # slowest one. Once this many samples exceed the limit, the bound exceeds it too.
    misses_left = bound_rank(query_count, 0.99)
    gaps_s = np.random.default_rng(_ARRIVAL_SEED).exponential(1 / queries_per_s, query_count - 1)
    start_s, times_ms = clock.now(), list[float]()
    for arrival_s in accumulate(gaps_s.tolist(), initial=0.0):
        wait_s = start_s + arrival_s - clock.now()
        if wait_s > 0:
            clock.sleep(wait_s)
        query()
        latency_ms = (clock.now() - start_s - arrival_s) * 1e3
        times_ms.append(latency_ms)
        report(len(times_ms), query_count)
        if p99_limit_ms is not None and latency_ms > p99_limit_ms:
            misses_left -= 1
            if misses_left <= 0:
                break
    return Timing((tuple(times_ms),))


def find_highest_rate(
    query: Query,
    p99_limit_ms: float,
    query_count: int,
    clock: Clock,
    report: Reporter = ignore_report,
) -> ServerTiming | None:
    """Search for the highest arrival rate that keeps the 99th percentile below a limit.

    The search bisects the range from 0 to the rate at which queries are answered back to back.

    Args:
        query: The query to repeat.
        p99_limit_ms: Limit that the 99th percentile must not exceed, with 99% confidence.
        query_count: Number of queries per step; raised to `MIN_SAMPLES[0.99]` if it is lower.
        clock: The clock for timing.
        report: Called after each query with the number of queries that are finished, and that are
            needed at most.

    Returns:
        The rate and the latencies at this rate; None if no rate of the search meets the limit.
    """
    query_count = max(query_count, MIN_SAMPLES[0.99])
    needed_queries = _PEAK_RATE_QUERIES + _SEARCH_STEPS * query_count

    def report_peak(percent: int, hundred: int) -> None:
        report(_PEAK_RATE_QUERIES * percent // hundred, needed_queries)

    timings = run_back_to_back(
        {"query": query}, _PEAK_RATE_QUERIES, _PEAK_RATE_SECONDS, clock, report_peak
    )
    back_to_back = timings["query"]
    # The limit of 1e-6 ms avoids a division by zero if a clock of low resolution measured 0 ms.
    low, high = 0.0, 1e3 / max(back_to_back.median_ms, 1e-6)
    best: ServerTiming | None = None
    for step in range(_SEARCH_STEPS):

        def report_step(done: int, total: int, finished: int = step * query_count) -> None:
            report(_PEAK_RATE_QUERIES + finished + done, needed_queries)

        rate = (low + high) / 2
        timing = run_server(
            query, rate, query_count, clock, p99_limit_ms=p99_limit_ms, report=report_step
        )
        bound_ms = summarize(timing.samples_ms).p99_bound_ms
        is_complete = len(timing.samples_ms) == query_count
        if is_complete and bound_ms is not None and bound_ms <= p99_limit_ms:
            low, best = rate, ServerTiming(rate, timing)
        else:
            high = rate
    report(needed_queries, needed_queries)
    return best
