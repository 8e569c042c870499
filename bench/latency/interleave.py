"""Times several workloads alternately in one process, to compare them on a noisy machine.

A workload is a function, and each call is one run. Timing consists of rounds: in each round, every
workload has one turn, in which it runs once or several times in a row. A temporary slowdown of the
machine then affects all workloads.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Reporter: TypeAlias = Callable[[int, int], object]
"""Function that receives the number of finished steps, and of all steps."""

_MIN_TIMED_ROUNDS = 3
"""Number of rounds that are timed even if the time budget is used up. With three rounds, one slow
round does not change the median much."""


def ignore_report(done: int, total: int) -> None:
    """Do nothing; the `Reporter` of a measurement whose progress is not shown."""


@dataclass(frozen=True)
class Timing:
    """Latencies of one workload.

    Attributes:
        turns_ms: One inner tuple per turn, with the milliseconds of each run, in the order of
            measurement. Runs of the warm-up and skipped runs are left out.
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
    """The schedule of alternating workloads.

    Attributes:
        rounds: Number of timed rounds; each has one turn of every workload.
        runs_per_turn: Number of runs in a row of a workload in one turn.
        warmup_rounds: Number of rounds before the timed ones, whose latencies are discarded.
        skipped_runs: Number of runs at the start of each turn whose latencies are discarded; fewer
            than `runs_per_turn`.
        budget_s: Seconds after which no further round begins, except that at least three rounds are
            timed; None for no limit.
    """

    rounds: int
    runs_per_turn: int = 1
    warmup_rounds: int = 0
    skipped_runs: int = 0
    budget_s: float | None = None


def run_interleaved(
    workloads: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 30,
    warmup: int = 3,
    budget_s: float | None = None,
    runs_per_turn: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time several workloads alternately, with `run_plan` and the usual number of skipped runs.

    If a turn has several runs, the first one is discarded, because threads of the previous
    workload's engine may still be busy-waiting on the cores.

    Args:
        workloads: The workloads by name; each call of one is one run.
        rounds: Number of timed rounds; each has one turn of every workload.
        warmup: Number of rounds before the timed ones, whose latencies are discarded.
        budget_s: Seconds after which no further round begins, except that at least three rounds are
            timed; None for no limit.
        runs_per_turn: Number of runs in a row of a workload in one turn.
        clock: Returns the current time in seconds; tests pass a fake clock.

    Returns:
        The latencies of each workload, by name.
    """
    plan = TurnPlan(
        rounds=rounds,
        runs_per_turn=runs_per_turn,
        warmup_rounds=warmup,
        skipped_runs=1 if runs_per_turn > 1 else 0,
        budget_s=budget_s,
    )
    return run_plan(workloads, plan, clock)


def run_plan(
    workloads: Mapping[str, Callable[[], object]],
    plan: TurnPlan,
    clock: Callable[[], float] = time.perf_counter,
    report: Reporter = ignore_report,
) -> dict[str, Timing]:
    """Time several workloads alternately, according to a plan.

    Args:
        workloads: The workloads by name; each call of one is one run.
        plan: The schedule.
        clock: Returns the current time in seconds; tests pass a fake clock.
        report: Called after each round, between two measurements. Its arguments are the percentage
            of the rounds or, if it is larger, of the time budget, and 100.

    Returns:
        The latencies of each workload, by name.
    """
    turns_ms: dict[str, list[tuple[float, ...]]] = {name: [] for name in workloads}
    start_s = clock()
    for round_index in range(plan.warmup_rounds + plan.rounds):
        is_warmup = round_index < plan.warmup_rounds
        for name, run in workloads.items():
            times_ms = _time_turn(run, plan.runs_per_turn, clock)
            if not is_warmup:
                turns_ms[name].append(times_ms[plan.skipped_runs :])
        budget_share = (clock() - start_s) / plan.budget_s if plan.budget_s else 0.0
        timed_rounds = round_index + 1 - plan.warmup_rounds
        if budget_share > 1 and timed_rounds >= _MIN_TIMED_ROUNDS:
            break
        round_share = (round_index + 1) / (plan.warmup_rounds + plan.rounds)
        report(min(int(100 * max(budget_share, round_share)), 99), 100)
    report(100, 100)
    return {name: Timing(tuple(turns)) for name, turns in turns_ms.items()}


def median_ratio(timing: Timing, reference: Timing) -> float:
    """Divide the latency of one workload by that of another.

    Latencies are divided round by round, because the speed of the machine changes little within a
    round. If the machine slows down for seconds, a ratio of overall medians can be wrong.

    Args:
        timing: Latencies of the workload.
        reference: Latencies of the reference workload, measured in the same rounds.

    Returns:
        The median of `ratios_by_round`; below 1 if the workload is faster than the reference.
    """
    return statistics.median(ratios_by_round(timing, reference))


def ratios_by_round(timing: Timing, reference: Timing) -> list[float]:
    """Divide the median latency of one workload by that of another, round by round.

    Args:
        timing: Latencies of the workload.
        reference: Latencies of the reference workload, measured in the same rounds.

    Returns:
        One ratio per round; below 1 if the workload was faster than the reference.
    """
    return [
        statistics.median(turn_ms) / statistics.median(reference_turn_ms)
        for turn_ms, reference_turn_ms in zip(timing.turns_ms, reference.turns_ms)
    ]


def _time_turn(
    run: Callable[[], object], run_count: int, clock: Callable[[], float]
) -> tuple[float, ...]:
    """Return the milliseconds of each of `run_count` runs in a row."""
    times_ms = []
    for _ in range(run_count):
        start_s = clock()
        run()
        times_ms.append((clock() - start_s) * 1e3)
    return tuple(times_ms)
