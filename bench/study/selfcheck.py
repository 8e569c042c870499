"""Does tinyvit-bench find two copies of one file equally fast? On the real clock, so it is run by people and not by tests.

    python -m tinyvit.bench.study.selfcheck FILE [--threads N] [--runs N]

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

from tinyvit.bench.latency.measure import Plan, measure
from tinyvit.bench.machine import cpu_facts
from tinyvit.cli import guarded, parser
from tinyvit.runtimes.artifact import files

_MOST = 0.02


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    example = "  python -m tinyvit.bench.study.selfcheck demo.onnx --threads 2"
    made = parser("python -m tinyvit.bench.study.selfcheck", "Time two copies of a file.", example)
    made.add_argument("file", type=Path, metavar="FILE")
    made.add_argument("--threads", type=int, metavar="N", help="CPU threads (the engine's own default)")
    made.add_argument("--runs", type=int, default=662, metavar="N", help="queries of each; default 662")
    args = made.parse_args(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        for each in files(args.file):
            shutil.copy(each, folder)
        copy = Path(folder) / args.file.name
        record = measure([str(args.file), str(copy)], Plan(threads=(args.threads,), runs=args.runs, cold=0))
    found = record.latency[1].ratio
    assert found is not None
    medians = " and ".join(f"{one.median_ms:.2f}" for one in record.latency)
    print(f"{cpu_facts()}; {record.latency[0].samples} runs each")
    print("".join(f"warning: {line}\n" for line in record.warnings), end="")
    print(f"medians {medians} ms; copy / file {found.median:.4f}, 95% interval {found.low:.4f} to {found.high:.4f}")
    return 0 if abs(found.median - 1) < _MOST and found.low <= 1 <= found.high else 1


if __name__ == "__main__":
    sys.exit(main())
