"""Does tinyvit-bench find two copies of one file equally fast? On the real clock, so it is run by people and not by tests.

    python -m tinyvit.studies.latency_selfcheck FILE [--threads N] [--runs N]

Exit code 1 where they differ by 2% or more, or where the interval of their ratio does not include 1, as it will in one of twenty
runs on a machine that is quiet.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tinyvit.bench.latency.measure import LatencyConfig, measure_latency
from tinyvit.bench.machine import describe_cpu
from tinyvit.cli import make_parser, run_guarded
from tinyvit.runtimes.artifact import artifact_files

_MOST = 0.02


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    example = "  python -m tinyvit.studies.latency_selfcheck demo.onnx --threads 2"
    made = make_parser(
        "python -m tinyvit.studies.latency_selfcheck", "Time two copies of a file.", example
    )
    made.add_argument("file", type=Path, metavar="FILE")
    made.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads (the engine's own default)"
    )
    made.add_argument(
        "--runs", type=int, default=662, metavar="N", help="queries of each; default 662"
    )
    args = made.parse_args(argv)
    return run_guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        for each in artifact_files(args.file):
            shutil.copy(each, folder)
        copy = Path(folder) / args.file.name
        record = measure_latency(
            [str(args.file), str(copy)],
            LatencyConfig(threads=(args.threads,), runs=args.runs, cold=0),
        )
    found = record.latency[1].ratio
    assert found is not None
    medians = " and ".join(f"{one.median_ms:.2f}" for one in record.latency)
    print(f"{describe_cpu()}; {record.latency[0].samples} runs each")
    print("".join(f"warning: {line}\n" for line in record.warnings), end="")
    print(
        f"medians {medians} ms; copy / file {found.median:.4f}, 95% interval {found.low:.4f} to {found.high:.4f}"
    )
    return 0 if abs(found.median - 1) < _MOST and found.low <= 1 <= found.high else 1


if __name__ == "__main__":
    sys.exit(main())
