"""Measures a change: runs with the earlier and with the present code take turns."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tinyvit.bench.latency.interference import detect_interference, take_snapshot
from tinyvit.bench.latency.process_times import adopt_orphans
from tinyvit.bench.record import current_time
from tinyvit.errors import ArtifactError, TinyViTError
from tinyvit.progress import Progress
from tinyvit.studies.before_after.arguments import State
from tinyvit.studies.before_after.history import compile_code, open_history
from tinyvit.studies.before_after.inputs import Inputs, Plan
from tinyvit.studies.before_after.measurement import Measurement, run_measurement
from tinyvit.studies.before_after.page import QuantityResult, RowResult
from tinyvit.studies.before_after.rows import Row

FAILED = "failed: "
"""Beginning of the note of a row whose measurement failed."""
NOT_RUN = "not run: "
"""Beginning of the note of a row that this machine, or these options, cannot measure."""


@dataclass(frozen=True)
class StudyOptions:
    """How the rows are measured.

    Attributes:
        root: The present working tree.
        plan: The sizes of the measurements.
        calib_data: Labeled images to calibrate with, if the user has any.
        val_data: Labeled images to validate with, if the user has any.
        rounds: Number of runs of each state; None for the usual number of each row.
    """

    root: Path
    plan: Plan
    calib_data: Path | None = None
    val_data: Path | None = None
    rounds: int | None = None


def measure_rows(
    rows: Sequence[Row],
    options: StudyOptions,
    progress: Progress,
    report: Callable[[RowResult], None],
) -> None:
    """Measure changes, and remove all earlier states at the end, whatever happens.

    Args:
        rows: The changes.
        options: How they are measured.
        progress: Receives messages.
        report: Receives the result of each row as soon as it is measured.

    Raises:
        MissingDependencyError: git is not installed.
        RequestError: The clone does not have a commit.
    """
    with (
        adopt_orphans(),  # A browser outlives the program that started it.
        open_history(options.root) as history,
        tempfile.TemporaryDirectory(prefix="before-after-") as folder,
    ):
        commits = [history.find_commit(row.earlier_commit) for row in rows]
        after_state = history.describe_present()
        compile_code(options.root)
        inputs = Inputs(Path(folder), options.plan, (options.calib_data, options.val_data))
        try:
            for row, commit in zip(rows, commits):
                progress.message(f"measuring {row.name}")
                change = row.describe(options.plan)
                result = RowResult(
                    row.name, change, current_time(), commit, after_state, row.commits
                )
                earlier = State(history.check_out(commit), options.root, is_before=True)
                present = State(options.root, options.root, is_before=False)
                rounds = options.rounds or row.rounds
                report(_measure_row(row, result, (earlier, present), inputs, rounds))
        finally:
            inputs.remove_names()


def _measure_row(
    row: Row, result: RowResult, states: tuple[State, State], inputs: Inputs, rounds: int
) -> RowResult:
    """Add the measurement of a row, and what disturbed it, to its result."""
    start_s = time.perf_counter()
    try:
        keys = [quantity.key for quantity in row.quantities]
        measurements = [
            Measurement(
                row.program, state.tree, row.make_arguments(inputs, state), keys, row.threads
            )
            for state in states
        ]
        before = take_snapshot()
        values = _take_turns(measurements, rounds)
        result = replace(result, warnings=tuple(detect_interference(before, take_snapshot())))
    except ArtifactError as error:
        result = replace(result, note=f"{FAILED}{error}")
    except TinyViTError as error:
        result = replace(result, note=f"{NOT_RUN}{error}")
    else:
        quantities = tuple(
            QuantityResult(
                quantity.text,
                quantity.decimals,
                *(tuple(run[quantity.key] for run in runs) for runs in values),
            )
            for quantity in row.quantities
        )
        result = replace(result, quantities=quantities)
    return replace(result, seconds=time.perf_counter() - start_s)


def _take_turns(
    measurements: Sequence[Measurement], rounds: int
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Run two measurements in turns, and swap their order after each round.

    Returns:
        The values of each round of the first, and of the second.
    """
    values: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    for number in range(rounds):
        for index in (0, 1) if number % 2 == 0 else (1, 0):
            values[index].append(run_measurement(measurements[index]))
    return values
