"""Comparing latencies on a shared, noisy machine: the workloads alternate in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Latencies of one workload.

    Attributes:
        turns_ms: Milliseconds of each counted run, grouped by turns, in the order of measurement.
    """

    turns_ms: tuple[tuple[float, ...], ...]

    @property
    def samples_ms(self) -> tuple[float, ...]:
        """All latencies in milliseconds, in the order of measurement."""
        return tuple(time_ms for turn in self.turns_ms for time_ms in turn)

    @property
    def median_ms(self) -> float:
        """The median of all latencies in milliseconds."""
        return statistics.median(self.samples_ms)


@dataclass(frozen=True)
class TurnPlan:
    """The schedule of alternating workloads: rounds of one turn each, turns of several runs.

    Attributes:
        rounds: Rounds to count.
        warmup: Rounds before them that are not counted.
        block: Runs per turn.
        skip: Runs at the beginning of each turn that are not counted, fewer than `block`.
        budget_s: Seconds after which no further round begins; at least three rounds are counted.
            None for no limit.
    """

    rounds: int
    warmup: int = 0
    block: int = 1
    skip: int = 0
    budget_s: float | None = None


def run_interleaved(
    runs: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 30,
    warmup: int = 3,
    budget_s: float | None = None,
    block: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time several workloads in turns, so that a slow spell of the machine hits all of them.

    If a turn has several runs, the first one is not counted: the threads of the engine before it
    still spin on the cores.

    Args:
        runs: The workloads by name; each call is one run.
        rounds: Rounds to count, each with one turn of every workload.
        warmup: Rounds before them that are not counted.
        budget_s: Seconds after which no further round begins; at least three rounds are counted.
            None for no limit.
        block: Runs per turn.
        clock: Returns the current time in seconds; tests pass their own.

    Returns:
        The latencies of each workload, by name.
    """
    return run_turns(runs, TurnPlan(rounds, warmup, block, min(1, block - 1), budget_s), clock)


def run_turns(
    runs: Mapping[str, Callable[[], object]],
    plan: TurnPlan,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time several workloads in turns, with full control of what is counted.

    Args:
        runs: The workloads by name; each call is one run.
        plan: How the workloads alternate.
        clock: Returns the current time in seconds; tests pass their own.

    Returns:
        The latencies of each workload, by name.
    """
    turns: dict[str, list[tuple[float, ...]]] = {name: [] for name in runs}
    start_s = clock()
    for round_index in range(plan.warmup + plan.rounds):
        for name, run in runs.items():
            turn = _time_turn(run, plan.block, clock)[plan.skip :]
            if round_index >= plan.warmup:
                turns[name].append(turn)
        is_over_budget = plan.budget_s is not None and clock() - start_s > plan.budget_s
        if is_over_budget and round_index >= plan.warmup + 2:
            break
    return {name: Timing(tuple(turns_ms)) for name, turns_ms in turns.items()}


def median_ratio(ours: Timing, theirs: Timing) -> float:
    """Divide the latency of one workload by that of another.

    Within a round both workloads saw the same machine. A ratio of overall medians would be wrong on
    a machine that changes its pace for seconds.

    Args:
        ours: Latencies of the workload of interest.
        theirs: Latencies of the reference, from the same `run_interleaved`.

    Returns:
        The median, over the rounds, of the ratio of that round's two medians; below 1 if `ours` is
        faster.
    """
    return statistics.median(round_ratios(ours, theirs))


def round_ratios(ours: Timing, theirs: Timing) -> list[float]:
    """Divide the median latency of one workload by that of another, round by round.

    Args:
        ours: Latencies of the workload of interest.
        theirs: Latencies of the reference, from the same `run_interleaved`.

    Returns:
        One ratio per round.
    """
    return [
        statistics.median(our_turn) / statistics.median(their_turn)
        for our_turn, their_turn in zip(ours.turns_ms, theirs.turns_ms)
    ]


def _time_turn(
    run: Callable[[], object], block: int, clock: Callable[[], float]
) -> tuple[float, ...]:
    """Return the milliseconds of each of `block` runs in a row."""
    times_ms = []
    for _ in range(block):
        start_s = clock()
        run()
        times_ms.append((clock() - start_s) * 1e3)
    return tuple(times_ms)
