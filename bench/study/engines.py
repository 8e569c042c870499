"""Files of one model in their engines, one after the other in one process: time, size, and what int8 and our tuning bring.

    python -m tinyvit.bench.study.engines FILE FILE ... [--stock] [--threads 2] [--rounds 30] [--json]

The first file is what all are compared with; a file that is not float32 also with the float32 file of its kind. --stock adds what
litert-torch and ExecuTorch make of the demo model by themselves.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from tinyvit.bench.latency.turns import Timing, alternate, median_ratio
from tinyvit.bench.machine import cpu_facts
from tinyvit.bench.peers import stock_executorch, stock_litert
from tinyvit.bench.readers import noise
from tinyvit.cli import guarded, parser
from tinyvit.errors import RequestError
from tinyvit.files import size_bytes
from tinyvit.runtimes.artifact import Artifact, open_artifact
from tinyvit.runtimes.base import Options, Runtime
from tinyvit.runtimes.formats.openvino_ir import OPENVINO_IR, weights
from tinyvit.runtimes.registry import open_runtime

_EXAMPLES = """\
  python -m tinyvit.bench.study.engines demo.onnx demo.int8.onnx demo.pte demo.int8.pte demo.tflite demo.int8.tflite --stock"""

_TURN = 6
"""Runs in a row, of which the first is not counted."""


@dataclass(frozen=True)
class Row:
    """A file that was timed. ms: the median; to_first, to_float32: medians of the ratios within a round, None without such a file."""

    file: str
    engine: str
    precision: str
    megabytes: float
    ms: float
    to_first: float
    to_float32: float | None


def timed(paths: Sequence[Path], threads: int, rounds: int) -> list[Row]:
    """Each file on noise, in turn, on `threads` threads. Raises what opening them raises."""
    with ExitStack() as stack:
        runtimes = [stack.enter_context(open_runtime(path, None, Options(threads=threads))) for path in paths]
        inputs = [noise(runtime.inputs[0].shape, runtime.inputs[0].dtype) for runtime in runtimes]
        runs = {str(i): (lambda runtime=runtime, x=x: runtime.run(x)) for i, (runtime, x) in enumerate(zip(runtimes, inputs))}
        times = list(alternate(runs, rounds=rounds, block=_TURN).values())
        return [_row(i, list(paths), runtimes, times) for i in range(len(paths))]


def _row(i: int, paths: list[Path], runtimes: list[Runtime], times: list[Timing]) -> Row:
    path, artifact = paths[i], open_artifact(paths[i])
    float32 = [j for j, each in enumerate(map(open_artifact, paths)) if each.format is artifact.format and _precision(each) == "float32"]
    size = size_bytes(path) + (size_bytes(weights(path)) if artifact.format is OPENVINO_IR else 0)
    return Row(
        file=path.name,
        engine=str(runtimes[i].describe()["engine"]),
        precision=_precision(artifact),
        megabytes=round(size / 1e6, 1),
        ms=times[i].median_ms,
        to_first=median_ratio(times[i], times[0]),
        to_float32=median_ratio(times[i], times[float32[0]]) if float32 and i not in float32 else None,
    )


def _precision(artifact: Artifact) -> str:
    return "stock" if artifact.manifest is None else artifact.manifest.precision


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    made = parser("python -m tinyvit.bench.study.engines", "Files of one model in their engines, in turn.", _EXAMPLES)
    made.add_argument("files", nargs="+", type=Path, metavar="FILE", help="exported files; of .mlpackage and .engine none runs everywhere")
    made.add_argument("--stock", action="store_true", help="add what litert-torch and ExecuTorch make of the demo model by themselves")
    made.add_argument("--threads", type=int, default=2, help="CPU threads; default 2")
    made.add_argument("--rounds", type=int, default=30, help=f"turns of each, of {_TURN - 1} timed runs; default 30")
    made.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = made.parse_args(argv)
    return guarded(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    if options.rounds < 1 or options.threads < 1:
        raise RequestError("there is nothing to time", "give --rounds and --threads from 1")
    with tempfile.TemporaryDirectory(prefix="tinyvit-") as folder:
        stock = [make(Path(folder)) for make in (stock_litert, stock_executorch)] if options.stock else []
        rows = timed([*options.files, *stock], options.threads, options.rounds)
    if options.json:
        print(json.dumps({"cpu": cpu_facts(), "threads": options.threads, "files": [asdict(row) for row in rows]}))
        return 0
    print(f"{cpu_facts()}; {options.threads} threads, {options.rounds} turns of {_TURN - 1} runs; ratios are medians over the turns\n")
    print(f"| file | engine | precision | MB | ms | / {rows[0].file} | / float32 there |\n|---|---|---|---|---|---|---|")
    for row in rows:
        ratio = "" if row.to_float32 is None else f"{row.to_float32:.2f}"
        print(f"| {row.file} | {row.engine} | {row.precision} | {row.megabytes} | {row.ms:.1f} | {row.to_first:.2f} | {ratio} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
