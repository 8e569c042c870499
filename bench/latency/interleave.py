"""Comparing how long things take on a shared, noisy machine: run them in turn in one process, compare medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Times of one variant, milliseconds: one tuple a turn, in the order they were taken."""

    turns_ms: tuple[tuple[float, ...], ...]

    @property
    def samples_ms(self) -> tuple[float, ...]:
        """All times, in the order they were taken."""
        return tuple(time_ms for turn in self.turns_ms for time_ms in turn)

    @property
    def median_ms(self) -> float:
        """The median, in milliseconds."""
        return statistics.median(self.samples_ms)


def run_interleaved(
    runs: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 30,
    warmup: int = 3,
    budget_s: float | None = None,
    block: int = 1,
    skip: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time every variant in turn, `rounds` times after `warmup` rounds that are not counted.

    A slow spell of the machine then hits all of them alike. With `budget_s`, stops early once it is spent, but not before
    three rounds. A turn is `block` runs in a row; its first `skip` are not counted: by default, where it is more than one run,
    the first, since the threads of the engine before still spin on the cores that it needs.
    """
    skip = min(1, block - 1) if skip is None else skip
    turns: dict[str, list[tuple[float, ...]]] = {name: [] for name in runs}
    started = clock()
    for i in range(warmup + rounds):
        for name, run in runs.items():
            turn = _turn(run, block, clock)[skip:]
            if i >= warmup:
                turns[name].append(turn)
        if budget_s is not None and i >= warmup + 2 and clock() - started > budget_s:
            break
    return {name: Timing(tuple(times)) for name, times in turns.items()}


def median_ratio(ours: Timing, theirs: Timing) -> float:
    """ours / theirs, below 1 where ours is faster: the median, over the rounds, of the ratio of that round's two medians.

    Within a round both saw the same machine; a ratio of overall medians would not survive one that changes pace for seconds.
    """
    return statistics.median(
        statistics.median(a) / statistics.median(b) for a, b in zip(ours.turns_ms, theirs.turns_ms)
    )


def _turn(run: Callable[[], object], block: int, clock: Callable[[], float]) -> tuple[float, ...]:
    times = []
    for _ in range(block):
        begin = clock()
        run()
        times.append((clock() - begin) * 1e3)
    return tuple(times)
