"""How queries come, as MLPerf Inference names it, and the wall clock's time of each.

single stream: one picture, the next when the last is answered. multi stream: eight at once, the next eight when they are answered.
offline: as many at once as the file takes, back to back, for what gets through. server: one picture, at times of its own, whether
the last is answered or not; a query's time then includes its waiting.

In: queries, callables that each do one; a clock, so that tests have their own. Out: times in milliseconds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np

from tinyvit.bench.latency.interleave import Timing, run_interleaved
from tinyvit.bench.latency.percentiles import MIN_SAMPLES_ABOVE, samples_above, summarize

Query = Callable[[], object]

PER_QUERY = {"single-stream": 1, "multi-stream": 8, "server": 1}
"""Pictures in a query; offline's are as many as asked for."""
_TURN = 12
"""Queries in a row of one file, before the next file's turn."""
_WINDOW, _STEADY = 8, 0.03
"""Warm-up ends where the medians of two windows of so many queries differ by less than this part."""
_MAX_WARMUP = 240
_SEARCH_STEPS = 8
"""Of the highest rate: by then it is known to 1/256 of the range."""


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> float:
        """Seconds, from any beginning."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait so long."""
        ...


class WallClock:
    """The real one."""

    def now(self) -> float:
        """See `Clock`."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        time.sleep(seconds)


@dataclass(frozen=True)
class Warmup:
    """Queries until they took the same time again and again; is_steady: whether they came to."""

    queries: int
    is_steady: bool


def warm_up(query: Query, clock: Clock, seconds: float = 20) -> Warmup:
    """Query until steady, but at most `seconds` or 240 times."""
    started, times = clock.now(), list[float]()
    while len(times) < _MAX_WARMUP and (clock.now() - started < seconds or len(times) < 2):
        before = clock.now()
        query()
        times.append(clock.now() - before)
        last, previous = times[-_WINDOW:], times[-2 * _WINDOW : -_WINDOW]
        if len(previous) == _WINDOW:
            now, then = statistics.median(last), statistics.median(previous)
            if abs(now - then) <= _STEADY * then:
                return Warmup(len(times), True)
    return Warmup(len(times), False)


def run_back_to_back(
    queries: Mapping[str, Query], runs: int, seconds: float, clock: Clock
) -> dict[str, Timing]:
    """Single stream, multi stream and offline: `runs` queries of each or more, in turns, but no longer than `seconds` for each.

    Of several files the first query of a turn is not counted, and is no less a query: what ran before still holds caches and cores.
    """
    skip = 1 if len(queries) > 1 else 0
    turn = min(_TURN, runs + skip)
    rounds = -(-runs // (turn - skip))
    return run_interleaved(
        queries,
        rounds=rounds,
        warmup=0,
        budget_s=seconds * len(queries),
        block=turn,
        skip=skip,
        clock=clock.now,
    )


def run_server(
    query: Query,
    rate: float,
    count: int,
    clock: Clock,
    *,
    seed: int = 0,
    give_up_ms: float | None = None,
) -> Timing:
    """Server: `count` queries that arrive at random, `rate` a second in the mean (a Poisson process of that seed), answered in order.

    Ends early, with fewer, once so many took longer than `give_up_ms` that the 99th percentile cannot be below it.
    """
    may_miss = samples_above(count, 0.99)
    waits = np.random.default_rng(seed).exponential(1 / rate, count - 1)
    begun, times = clock.now(), list[float]()
    for arrival in accumulate(waits.tolist(), initial=0.0):
        if (early := begun + arrival - clock.now()) > 0:
            clock.sleep(early)
        query()
        times.append((clock.now() - begun - arrival) * 1e3)
        if give_up_ms is not None and times[-1] > give_up_ms:
            may_miss -= 1
            if may_miss <= 0:
                break
    return Timing((tuple(times),))


def find_highest_rate(
    query: Query, p99_ms: float, count: int, clock: Clock
) -> tuple[float, Timing] | None:
    """The highest rate, queries a second, whose 99th percentile is below `p99_ms` with 99% confidence, and the times at it.

    By bisection up to what is answered back to back; None where even 1/256 of that does not meet it.
    """
    count = max(count, MIN_SAMPLES_ABOVE[0.99])
    limit = 1e3 / max(
        summarize(run_back_to_back({"": query}, 64, 60, clock)[""].samples_ms).median_ms, 1e-6
    )
    low, high = 0.0, limit
    best: tuple[float, Timing] | None = None
    for _ in range(_SEARCH_STEPS):
        rate = (low + high) / 2
        times = run_server(query, rate, count, clock, give_up_ms=p99_ms)
        bound = summarize(times.samples_ms).p99_bound_ms
        if len(times.samples_ms) == count and bound is not None and bound <= p99_ms:
            low, best = rate, (rate, times)
        else:
            high = rate
    return best
