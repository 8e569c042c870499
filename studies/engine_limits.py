"""Measures where the time of files goes in their engines, and how far that is from the limit.

    python -m tinyvit.studies.engine_limits FILE ... [--threads N ...] [-o docs/results]

FILE is an artifact (exported model file). The time of one run is divided into kinds of work by the
engine's own profile, and compared with the peaks of the machine, which are measured too. The
command writes a Markdown page and a JSON record, which are named after the kind of machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tinyvit.bench import machine
from tinyvit.bench.artifact_info import read_size_bytes
from tinyvit.bench.kernel_profile import list_nodes
from tinyvit.bench.latency.interference import detect_interference, take_snapshot
from tinyvit.bench.latency.interleave import run_interleaved
from tinyvit.bench.latency.open_artifact import open_in_engine
from tinyvit.bench.latency.queries import make_network_query
from tinyvit.bench.latency.scenarios import WallClock, warm_up
from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.errors import TinyViTError
from tinyvit.progress import Progress, make_progress
from tinyvit.runtimes.artifact import known_suffixes, read_artifact
from tinyvit.runtimes.base import RuntimeOptions
from tinyvit.runtimes.registry import engines_for_format
from tinyvit.studies.engine_bounds import EngineTimes
from tinyvit.studies.figures import name_machine_kind
from tinyvit.studies.kernel_kinds import add_times, count_output_bytes
from tinyvit.studies.limits_page import LimitsRecord, format_page, make_record
from tinyvit.studies.machine_peaks import MATRIX_SIZES, measure_machine_peaks
from tinyvit.studies.output_argument import add_output_argument

_ONE_THREAD_PROFILERS = ("litert",)
"""Engines whose profiler always runs on one thread."""
_PROGRAM = "python -m tinyvit.studies.engine_limits"
_EXAMPLES = f"""\
  {_PROGRAM} demo.onnx demo.int8.onnx
  {_PROGRAM} artifacts/demo* --threads 1 2 -o docs/results"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.

    Returns:
        The exit code.
    """
    parser = make_parser(
        _PROGRAM,
        "Measure where the time of files goes, beside the peaks of this machine.",
        _EXAMPLES,
    )
    _add_arguments(parser)
    return run_guarded(partial(_run, parser.parse_args(argv)))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help=f"exported model file ({known_suffixes()})")
    add(
        "--threads",
        type=positive_int,
        nargs="+",
        default=[1],
        metavar="N",
        help="numbers of CPU threads, each of which is measured (default: 1)",
    )
    add("--rounds", type=positive_int, default=60, metavar="N", help="runs of a file (default: 60)")
    add(
        "--seconds",
        type=positive_int,
        default=15,
        metavar="N",
        help="time limit of the runs of a file, of which at least three are made (default: 15)",
    )
    add(
        "--matrix-size",
        type=positive_int,
        nargs="+",
        default=list(MATRIX_SIZES),
        metavar="N",
        help="sides of the matrices of which the peaks are measured (default: 256 512 1024)",
    )
    add_output_argument(parser, "folder for the page and the record (default: docs/results)")


def _run(args: argparse.Namespace) -> int:
    record = _measure(args, make_progress())
    args.output.mkdir(parents=True, exist_ok=True)
    stem = args.output / f"{name_machine_kind(record.device)}-limits"
    stem.with_suffix(".json").write_text(json.dumps(make_record(record), indent=1) + "\n")
    stem.with_suffix(".md").write_text("\n".join(format_page(record)) + "\n")
    print(stem.with_suffix(".md"))
    return 0


def _measure(args: argparse.Namespace, progress: Progress) -> LimitsRecord:
    """Measure the peaks, then every file with every number of threads, then the peaks again.

    Of the two measurements of the peaks, the higher rates count: other work only lowers them.
    """
    record = LimitsRecord.begin(machine.read_device_info())
    before = take_snapshot()
    for threads in args.threads:
        progress.message(f"measuring the peaks of this machine, threads: {threads}")
        first_peaks = measure_machine_peaks(threads, args.matrix_size)
        rows = []
        for path in args.files:
            progress.message(f"measuring {path}, threads: {threads}")
            rows.append(measure_file(path, threads, args.rounds, args.seconds))
        last_peaks = measure_machine_peaks(threads, args.matrix_size)
        record = record.add(rows, first_peaks.join(last_peaks))
    return replace(record, warnings=tuple(detect_interference(before, take_snapshot())))


def measure_file(path: str, threads: int, rounds: int, seconds: float) -> EngineTimes:
    """Measure a file in the best engine for its format.

    Args:
        path: The artifact.
        threads: Number of CPU threads.
        rounds: Number of timed runs.
        seconds: Time limit of the timed runs.

    Returns:
        The times. What cannot be measured is missing, and the note says why.
    """
    try:
        engine, wall_ms = _time_runs(path, threads, rounds, seconds)
        size_bytes = read_size_bytes(read_artifact(path).path)
    except TinyViTError as error:
        return EngineTimes(Path(path).name, "", threads, note=f"not measured: {error}")
    return _add_profile(EngineTimes(Path(path).name, engine, threads, wall_ms, size_bytes), path)


def _time_runs(path: str, threads: int, rounds: int, seconds: float) -> tuple[str, float]:
    """Return the engine with its version, and the median time of a run in milliseconds."""
    options = RuntimeOptions(threads=threads, allow_foreign_operators=True)
    with open_in_engine(path, None, options) as opened:
        query = make_network_query(opened, opened.fixed_batch or 1)
        warm_up(query, WallClock(), max_seconds=seconds / 3)
        timing = run_interleaved({"file": query}, rounds=rounds, warmup=0, budget_s=seconds)
        info = opened.runtime.describe()
    return f"{info.engine} {info.version.split('-')[0]}", timing["file"].median_ms


def _add_profile(times: EngineTimes, path: str) -> EngineTimes:
    """Add what the engine's profile states; the note says what it lacks."""
    artifact = read_artifact(path)
    try:
        engine, nodes = list_nodes(artifact.path, times.threads, None, True)
    except (TinyViTError, ValueError) as error:
        engine = engines_for_format(artifact.format)[0]
        return replace(times, note=f"no profile of {engine}: {error}")
    counted = replace(
        times,
        integer_macs=sum(node.macs for node in nodes if node.is_integer),
        float_macs=sum(node.macs for node in nodes if not node.is_integer),
        output_bytes=count_output_bytes(nodes),
    )
    kind_ms = add_times(nodes)
    missing = [] if counted.output_bytes is not None else ["the profile has no sizes"]
    if engine in _ONE_THREAD_PROFILERS and times.threads > 1:
        missing.append(f"{engine} profiles one thread only")
    elif not any(kind_ms.values()):
        missing.append("the profile has no times")
    else:
        counted = replace(counted, kind_ms=kind_ms)
    return replace(counted, note="; ".join(missing))


if __name__ == "__main__":
    sys.exit(main())
