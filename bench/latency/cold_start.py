"""Measures a cold start: a new process imports an engine, opens an artifact and runs it once.

The command

    python -m tinyvit.bench.latency.cold_start FILE [--runtime NAME] [--threads N] [--device NAME]

measures the cold start of its own process, and prints one JSON object. `measure_cold_start` starts
such processes. The times include reading the file from disk only if the file is not in the page
cache of the operating system, for example after a reboot.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

from tinyvit.bench.record import ColdStart
from tinyvit.errors import ArtifactError, TinyViTError
from tinyvit.files.file_io import expand_home
from tinyvit.processes.limited_program import ProcessLimitError, RunLimits, run_bounded
from tinyvit.processes.python_process import make_module_command, read_last_line
from tinyvit.serialization import parse_dataclass, parse_json
from tinyvit.text.safe_text import print_lines

_RUNS_AFTER_FIRST = 10
"""Number of inferences after the first one, so that the peak memory is that of repeated use."""
_LIMITS = RunLimits(seconds=600, output_bytes=2**20)
"""Limits on the new process, which prints one JSON object of less than 1 kB."""


def measure_cold_start(path: str, arguments: Sequence[str], process_count: int = 3) -> ColdStart:
    """Measure cold starts, each in a new process.

    Args:
        path: Path of the artifact.
        arguments: Command-line options of this module, such as "--threads" and its value.
        process_count: Number of processes to start, at least 1.

    Returns:
        The median of each time, and the highest peak memory.

    Raises:
        ArtifactError: A process failed or took more than ten minutes.
    """
    # A relative path that begins with a hyphen would be an option.
    absolute_path = str(expand_home(path).absolute())
    command = make_module_command("tinyvit.bench.latency.cold_start", absolute_path, *arguments)
    cold_starts = [_start_process(command, path) for _ in range(process_count)]
    peaks_bytes = [
        cold_start.peak_memory_bytes
        for cold_start in cold_starts
        if cold_start.peak_memory_bytes is not None
    ]
    return ColdStart(
        import_ms=statistics.median(cold_start.import_ms for cold_start in cold_starts),
        load_ms=statistics.median(cold_start.load_ms for cold_start in cold_starts),
        first_inference_ms=statistics.median(
            cold_start.first_inference_ms for cold_start in cold_starts
        ),
        peak_memory_bytes=max(peaks_bytes) if peaks_bytes else None,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments of the command; those of the process by default.

    Returns:
        The exit code: 1 if the artifact cannot be run, otherwise 0.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tinyvit.bench.latency.cold_start",
        description="Time the import of an engine, the opening of an artifact, and the first"
        " inference.",
    )
    parser.add_argument("file", metavar="FILE", help="exported file")
    parser.add_argument(
        "--runtime", metavar="NAME", help="engine (default: the best installed one)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="number of CPU threads")
    parser.add_argument("--device", default="auto", metavar="NAME", help="device of the engine")
    parser.add_argument(
        "--allow-foreign-operators",
        action="store_true",
        help="run operators that image classifiers do not need",
    )
    options = parser.parse_args(argv)
    try:
        print_lines(json.dumps(asdict(_measure_this_process(options))))
    except TinyViTError as error:
        print_lines(str(error), stream=sys.stderr)
        return 1
    return 0


def _start_process(command: Sequence[str], path: str) -> ColdStart:
    """Run the command of this module in a new process, and parse the JSON that it prints."""
    remedy = "check whether tinyvit-verify can run the file"
    try:
        process = run_bounded(command, _LIMITS)
    except ProcessLimitError as error:
        raise ArtifactError(f"a new process that ran {path} {error}", remedy) from error
    try:
        return parse_dataclass(ColdStart, parse_json(process.stdout.decode("utf-8", "replace")))
    except ValueError as error:
        reason = read_last_line(process.stderr, if_empty="the process printed no error")
        raise ArtifactError(f"a new process cannot run {path} ({reason})", remedy) from error


def _measure_this_process(options: argparse.Namespace) -> ColdStart:
    """Time a cold start in this process, which must not have imported an engine before.

    The modules that take long to import are therefore imported here, within the import time.
    """
    start_s = time.perf_counter()
    from importlib import import_module

    from tinyvit.bench.latency.open_artifact import open_in_engine
    from tinyvit.bench.latency.queries import choose_images_per_query, make_network_query
    from tinyvit.privacy import hide_openvino_telemetry
    from tinyvit.runtimes.artifact import detect_format
    from tinyvit.runtimes.base import RuntimeOptions
    from tinyvit.runtimes.registry import engines_for_format, get_engine
    from tinyvit.runtimes.trial import get_trial_seconds

    engine_name = options.runtime or engines_for_format(detect_format(options.file))[0]
    # Opening the artifact raises an error that is more specific than an ImportError.
    with suppress(ImportError), hide_openvino_telemetry():
        import_module(get_engine(engine_name).package)
    imported_s = time.perf_counter()
    runtime_options = RuntimeOptions(
        options.device,
        options.threads,
        allow_foreign_operators=options.allow_foreign_operators,
    )
    with open_in_engine(options.file, engine_name, runtime_options) as open_artifact:
        loaded_s = time.perf_counter()
        images_per_query = choose_images_per_query(open_artifact, requested=None, default=1)
        query = make_network_query(open_artifact, images_per_query)
        prepared_s = time.perf_counter()
        query()
        answered_s = time.perf_counter()
        for _ in range(_RUNS_AFTER_FIRST):
            query()
    # Imported here, so that the time of this import is not part of any result.
    from tinyvit.bench.machine import read_peak_memory_bytes

    return ColdStart(
        import_ms=(imported_s - start_s) * 1e3,
        load_ms=(loaded_s - imported_s - get_trial_seconds()) * 1e3,
        first_inference_ms=(answered_s - prepared_s) * 1e3,
        peak_memory_bytes=read_peak_memory_bytes(),
    )


if __name__ == "__main__":
    sys.exit(main())
