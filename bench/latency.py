"""Comparing how long things take on a shared, noisy machine: run them in turn in one process, compare medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Times of one variant, milliseconds, in the order they were taken."""

    samples_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The median, in milliseconds."""
        return statistics.median(self.samples_ms)


def alternate(
    runs: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 30,
    warmup: int = 3,
    budget_s: float | None = None,
    block: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time every variant in turn, `rounds` times after `warmup` rounds that are not counted.

    A slow spell of the machine then hits all of them alike. With `budget_s`, stops early once it is spent, but not before
    three rounds. A turn is `block` runs in a row; where it is more than one, the first is not counted, since the threads
    of the engine before still spin on the cores that it needs.
    """
    samples: dict[str, list[float]] = {name: [] for name in runs}
    started = clock()
    for i in range(warmup + rounds):
        for name, run in runs.items():
            for j in range(block):
                begin = clock()
                run()
                elapsed = clock() - begin
                if i >= warmup and (j or block == 1):
                    samples[name].append(elapsed * 1e3)
        if budget_s is not None and i >= warmup + 2 and clock() - started > budget_s:
            break
    return {name: Timing(tuple(times)) for name, times in samples.items()}


def median_ratio(ours: Timing, theirs: Timing) -> float:
    """Ratio of medians, ours / theirs: below 1 where ours is faster."""
    return ours.median_ms / theirs.median_ms
