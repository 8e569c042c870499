"""Checks that tinyvit-bench measures the same latency for two copies of one artifact.

    python -m tinyvit.studies.latency_selfcheck FILE [--threads N] [--runs N]

FILE is an exported model file. The exit code is 1 if the latencies differ by 2% or more, or if the
95% interval of their ratio does not contain 1. Even on a machine without other work, the interval
misses 1 by chance in one of twenty runs. The result depends on the real clock, so the tests do not
run this command.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tinyvit.bench.devices.bundle import copy_artifacts
from tinyvit.bench.latency.config import LatencyConfig
from tinyvit.bench.latency.measure import measure_latency
from tinyvit.bench.latency.percentiles import MIN_SAMPLES
from tinyvit.bench.machine import describe_cpu
from tinyvit.bench.report.tables import format_ratio
from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.files.file_io import expand_home

_PROGRAM = "python -m tinyvit.studies.latency_selfcheck"
_MAX_DIFFERENCE = 0.02
"""Limit of the difference of the two latencies, as a fraction."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.

    Returns:
        The exit code: 0 if the two copies are equally fast, otherwise 1.
    """
    parser = make_parser(
        _PROGRAM, "Compare the latencies of two copies of one artifact.", f"  {_PROGRAM} demo.onnx"
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="exported model file to copy")
    parser.add_argument(
        "--threads", type=positive_int, metavar="N", help="CPU threads (default: the engine's own)"
    )
    parser.add_argument(
        "--runs",
        type=positive_int,
        default=MIN_SAMPLES[0.99],  # enough to report the 99th percentile
        metavar="N",
        help="number of queries (calls of the network) per copy (default: %(default)s)",
    )
    options = parser.parse_args(argv)
    return run_guarded(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        copy_artifacts([expand_home(options.file)], Path(folder))
        copy = Path(folder) / options.file.name
        config = LatencyConfig(threads=(options.threads,), runs=options.runs, cold_starts=0)
        record = measure_latency([str(options.file), str(copy)], config)
    original_result, copy_result = record.latency
    ratio = copy_result.ratio
    assert ratio is not None  # every result after the first has a ratio to the first
    ratio_text = format_ratio(ratio, decimals=4)
    if ratio.low is None or ratio.high is None:
        print(f"ratio {ratio_text}: give a larger --runs")
        return 1
    print(f"{describe_cpu()}; {original_result.sample_count} queries of each copy")
    for warning in record.warnings:
        print(f"warning: {warning}")
    print(
        f"medians {original_result.median_ms:.2f} and {copy_result.median_ms:.2f} ms;"
        f" ratio and 95% interval {ratio_text}"
    )
    is_equally_fast = abs(ratio.median - 1) < _MAX_DIFFERENCE and ratio.low <= 1 <= ratio.high
    return 0 if is_equally_fast else 1


if __name__ == "__main__":
    sys.exit(main())
