"""Measures how much time onnxruntime spends in each kind of node (operator type) of an ONNX file.

    python -m tinyvit.studies.onnx_profile FILE [FILE ...] [--without]

By default it reads onnxruntime's profile. The profiler slows every node a little, so that graphs
with many nodes appear slower than they are. With `--without` it uses no profiler: it times the
graph with all nodes of one kind removed, alternately with the whole graph.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyvit.bench.latency.interleave import run_interleaved
from tinyvit.bench.machine import describe_cpu
from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.errors import MissingDependencyError

if TYPE_CHECKING:
    import onnx

_PROGRAM = "python -m tinyvit.studies.onnx_profile"
_EXAMPLES = f"""\
  {_PROGRAM} demo.onnx
  {_PROGRAM} demo.onnx stock.onnx --without --threads 1"""
_REMOVABLE = ("Gelu", "LayerNormalization", "Softmax", "Add")
"""Kinds of nodes that can be removed, because their output has the shape of their first input."""


@dataclass(frozen=True)
class _Row:
    """One row of the table.

    Attributes:
        name: A kind of node, "all" for the sum of all kinds, or "nothing" for the whole graph.
        time_ms: Time of these nodes, or of the graph without them.
        nodes: Number of these nodes.
    """

    name: str
    time_ms: float
    nodes: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments of the command; those of the process by default.

    Returns:
        The exit code.
    """
    parser = make_parser(
        _PROGRAM,
        "Show the time that onnxruntime spends in each kind of node of an ONNX file.",
        _EXAMPLES,
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".onnx files")
    parser.add_argument(
        "--without",
        action="store_true",
        help="time the graph with all nodes of one kind removed, instead of using the profiler",
    )
    parser.add_argument(
        "--threads", type=positive_int, default=2, metavar="N", help="CPU threads (default: 2)"
    )
    parser.add_argument(
        "--rounds", type=positive_int, default=40, metavar="N", help="number of runs (default: 40)"
    )
    options = parser.parse_args(argv)
    return run_guarded(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    print(f"{describe_cpu()}; {options.threads} threads, {options.rounds} runs\n")
    measure = _time_reduced_graphs if options.without else _profile_kinds
    for path in options.files:
        print(f"| {path.name} | ms | nodes |\n|---|---|---|")
        for row in measure(path, options):
            print(f"| {row.name} | {row.time_ms:.2f} | {row.nodes or ''} |")
        print()
    return 0


def _profile_kinds(path: Path, options: argparse.Namespace) -> list[_Row]:
    """Sum the lower quartiles of the nodes' times per kind; the slowest kind is the first row."""
    with tempfile.TemporaryDirectory() as folder:
        settings = _make_settings(options)
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(folder) / "profile")
        session, inputs = _open_session(str(path), settings)
        for _ in range(options.rounds):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
    node_times_ms: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            node_times_ms[event["args"]["op_name"], event["name"]].append(event["dur"] / 1e3)
    kind_times_ms: dict[str, list[float]] = defaultdict(list)
    for (kind, _), samples_ms in node_times_ms.items():
        kind_times_ms[kind].append(statistics.quantiles(samples_ms, n=4)[0])
    rows = [_Row(kind, sum(times_ms), len(times_ms)) for kind, times_ms in kind_times_ms.items()]
    rows.sort(key=lambda row: -row.time_ms)
    total = _Row("all", sum(row.time_ms for row in rows), sum(row.nodes for row in rows))
    return [*rows, total]


def _time_reduced_graphs(path: Path, options: argparse.Namespace) -> list[_Row]:
    """Time the graph without each kind of node, as the lower decile of alternating runs."""
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError.for_package("onnx", extra="export") from error
    whole = onnx.load(path)
    counts = {kind: sum(node.op_type == kind for node in whole.graph.node) for kind in _REMOVABLE}
    graphs = {"nothing": whole}
    graphs |= {kind: _without_kind(whole, kind) for kind, count in counts.items() if count}
    runs = {name: _make_run(graph.SerializeToString(), options) for name, graph in graphs.items()}
    timings = run_interleaved(runs, rounds=options.rounds)
    return [
        _Row(name, statistics.quantiles(timing.samples_ms, n=10)[0], counts.get(name, 0))
        for name, timing in timings.items()
    ]


def _without_kind(model: onnx.ModelProto, kind: str) -> onnx.ModelProto:
    """Return a copy of a model in which nodes of one kind only return their first input."""
    import onnx

    reduced = onnx.ModelProto()
    reduced.CopyFrom(model)
    for node in reduced.graph.node:
        if node.op_type == kind:
            identity = onnx.helper.make_node(
                "Identity", [node.input[0]], [node.output[0]], name=node.name
            )
            node.CopyFrom(identity)
    return reduced


def _make_run(model: bytes, options: argparse.Namespace) -> Callable[[], object]:
    """Return a callable that runs a model once."""
    session, inputs = _open_session(model, _make_settings(options))

    def run() -> object:
        return session.run(None, inputs)

    return run


def _make_settings(options: argparse.Namespace) -> Any:
    """Return onnxruntime.SessionOptions for the number of threads."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 3
    return settings


def _open_session(model: str | bytes, settings: Any) -> tuple[Any, dict[str, Any]]:
    """Open a model, and make random values for its one float32 input; dynamic sizes become 1."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    (spec,) = session.get_inputs()
    shape = [size if isinstance(size, int) else 1 for size in spec.shape]
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return session, {spec.name: values}


if __name__ == "__main__":
    sys.exit(main())
