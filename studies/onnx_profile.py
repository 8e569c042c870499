"""Measures how much time onnxruntime spends in each kind of node (operator type) of an ONNX file.

    python -m tinyvit.studies.onnx_profile FILE [FILE ...] [--without]

By default, the times are from onnxruntime's profiler. The profiler slows every node a little, so
that graphs with many nodes appear slower than they are. With `--without`, no profiler is used: the
graph is timed with all nodes of one kind removed, alternately with the whole graph.
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
from typing import TYPE_CHECKING, Any, Literal

from tinyvit.bench.latency.interleave import run_interleaved
from tinyvit.bench.machine import describe_cpu
from tinyvit.bench.profilers import random_input
from tinyvit.cli import make_parser, positive_int, run_guarded
from tinyvit.errors import MissingDependencyError

if TYPE_CHECKING:
    import onnx

_PROGRAM = "python -m tinyvit.studies.onnx_profile"
_EXAMPLES = f"""\
  {_PROGRAM} demo.onnx
  {_PROGRAM} demo.onnx stock.onnx --without --threads 1"""
_REMOVABLE_KINDS = ("Gelu", "LayerNormalization", "Softmax", "Add")
"""Kinds of nodes that can be removed, because their output has the shape of their first input."""
_QUANTILE_METHOD: Literal["inclusive"] = "inclusive"
"""Method of `statistics.quantiles`. The default method can return less than the lowest of a few
times, even a negative time."""


@dataclass(frozen=True)
class _Row:
    """One row of the table.

    Attributes:
        name: A kind of node; "all" for all nodes; with `--without`, "nothing" for the whole graph,
            from which nothing is removed.
        time_ms: Time of these nodes; with `--without`, the time of the graph without these nodes.
        node_count: Number of these nodes.
    """

    name: str
    time_ms: float
    node_count: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.

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
    measure = _time_graphs_without_kinds if options.without else _profile_kinds
    for path in options.files:
        print(f"| {path.name} | ms | nodes |\n|---|---|---|")
        for row in measure(path, options):
            print(f"| {row.name} | {row.time_ms:.2f} | {row.node_count or ''} |")
        print()
    return 0


def _profile_kinds(path: Path, options: argparse.Namespace) -> list[_Row]:
    """Add up the profiled times of the nodes of each kind.

    The time of a node is the lower quartile of its times in all runs.

    Returns:
        One row per kind, the slowest kind first, and a row for all nodes.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = _make_settings(options)
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(folder) / "profile")
        session, inputs = _open_session(str(path), settings)
        for _ in range(options.rounds):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
    samples_by_node_ms: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            kind, node_name = event["args"]["op_name"], event["name"]
            samples_by_node_ms[kind, node_name].append(event["dur"] / 1e3)
    node_times_by_kind_ms: dict[str, list[float]] = defaultdict(list)
    for (kind, _), samples_ms in samples_by_node_ms.items():
        lower_quartile_ms = statistics.quantiles(samples_ms, n=4, method=_QUANTILE_METHOD)[0]
        node_times_by_kind_ms[kind].append(lower_quartile_ms)
    rows = [
        _Row(kind, time_ms=sum(times_ms), node_count=len(times_ms))
        for kind, times_ms in node_times_by_kind_ms.items()
    ]
    rows.sort(key=lambda row: -row.time_ms)
    total_row = _Row(
        "all",
        time_ms=sum(row.time_ms for row in rows),
        node_count=sum(row.node_count for row in rows),
    )
    return [*rows, total_row]


def _time_graphs_without_kinds(path: Path, options: argparse.Namespace) -> list[_Row]:
    """Time the whole graph, and the graph without each kind of node, in alternating runs.

    Returns:
        One row per graph. The time is the lowest decile of the graph's runs.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError.for_package("onnx", extra="export") from error
    whole_model = onnx.load(path)
    counts = {
        kind: sum(node.op_type == kind for node in whole_model.graph.node)
        for kind in _REMOVABLE_KINDS
    }
    models = {"nothing": whole_model}
    for kind, count in counts.items():
        if count:
            models[kind] = _remove_kind(whole_model, kind)
    runs = {name: _make_run(model.SerializeToString(), options) for name, model in models.items()}
    timings = run_interleaved(runs, rounds=options.rounds)
    rows = []
    for name, timing in timings.items():
        lowest_decile_ms = statistics.quantiles(timing.samples_ms, n=10, method=_QUANTILE_METHOD)[0]
        rows.append(_Row(name, time_ms=lowest_decile_ms, node_count=counts.get(name, 0)))
    return rows


def _remove_kind(model: onnx.ModelProto, kind: str) -> onnx.ModelProto:
    """Return a copy of a model in which every node of a kind is replaced by Identity.

    Args:
        model: The model.
        kind: Operator type of the nodes that are replaced.
    """
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
    """Return a function that runs a serialized model once."""
    session, inputs = _open_session(model, _make_settings(options))

    def run() -> object:
        return session.run(None, inputs)

    return run


def _make_settings(options: argparse.Namespace) -> Any:
    """Return the `onnxruntime.SessionOptions` for the options of the command."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 3  # errors only
    return settings


def _open_session(model: str | bytes, settings: Any) -> tuple[Any, dict[str, Any]]:
    """Open a model with one float32 input.

    Args:
        model: Path of the model, or the serialized model.
        settings: The `onnxruntime.SessionOptions`.

    Returns:
        The session, and random values of the input by its name. Dynamic sizes become 1.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    (spec,) = session.get_inputs()
    return session, {spec.name: random_input(spec.shape, "float32")}


if __name__ == "__main__":
    sys.exit(main())
