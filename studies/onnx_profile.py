"""Where an ONNX file's time goes in onnxruntime: its own profile by kind of node, and what each kind costs by taking it out.

    python -m tinyvit.studies.onnx_profile FILE [FILE ...] [--without]

The profiler slows every node a little, so graphs of many nodes look worse than they are; `--without` does not use it: it
times the graph with all nodes of one kind replaced by nothing, in turn with the whole one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyvit.bench.latency.interleave import run_interleaved
from tinyvit.bench.machine import describe_cpu
from tinyvit.cli import make_parser, run_guarded
from tinyvit.errors import MissingDependencyError

if TYPE_CHECKING:
    import onnx

_EXAMPLES = """\
  python -m tinyvit.studies.onnx_profile demo.onnx
  python -m tinyvit.studies.onnx_profile demo.onnx stock.onnx --without --threads 1"""
_REMOVABLE = ("Gelu", "LayerNormalization", "Softmax", "Add")
"""Kinds of node whose output has the shape of their first input."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    made = make_parser(
        "python -m tinyvit.studies.onnx_profile",
        "Where an ONNX file's time goes in onnxruntime.",
        _EXAMPLES,
    )
    made.add_argument("files", nargs="+", type=Path, metavar="FILE")
    made.add_argument(
        "--without",
        action="store_true",
        help="time the graph without each kind of cheap node, instead of the profiler",
    )
    made.add_argument("--threads", type=int, default=2, help="CPU threads; default 2")
    made.add_argument("--rounds", type=int, default=40, help="runs; default 40")
    options = made.parse_args(argv)
    return run_guarded(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    print(f"{describe_cpu()}; {options.threads} threads, {options.rounds} runs\n")
    for path in options.files:
        table = _without(path, options) if options.without else _by_kind(path, options)
        print(f"| {path.name} | ms | nodes |\n|---|---|---|")
        print(
            "\n".join(f"| {name} | {ms:.2f} | {count or ''} |" for name, ms, count in table) + "\n"
        )
    return 0


def _by_kind(path: Path, options: argparse.Namespace) -> list[tuple[str, float, int]]:
    """(kind, milliseconds, nodes), the lower quartile of each node's times summed by kind, the dearest first."""
    with tempfile.TemporaryDirectory() as folder:
        settings = _settings(options)
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(folder) / "profile")
        session, feed = _session(str(path), settings)
        for _ in range(options.rounds):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"], event["name"]].append(event["dur"] / 1e3)
    kinds: dict[str, list[float]] = defaultdict(list)
    for (kind, _), samples in times.items():
        kinds[kind].append(statistics.quantiles(samples, n=4)[0])
    rows = sorted(
        ((kind, sum(each), len(each)) for kind, each in kinds.items()), key=lambda row: -row[1]
    )
    return [*rows, ("all", sum(row[1] for row in rows), sum(row[2] for row in rows))]


def _without(path: Path, options: argparse.Namespace) -> list[tuple[str, float, int]]:
    """(what was taken out, milliseconds that the graph took then, nodes taken out): lower deciles of alternating runs."""
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError.of("onnx", "export") from error
    whole = onnx.load(path)
    count = {kind: sum(node.op_type == kind for node in whole.graph.node) for kind in _REMOVABLE}
    graphs = {
        "nothing": whole,
        **{kind: _replaced(whole, kind) for kind in _REMOVABLE if count[kind]},
    }
    runs = {}
    for name, graph in graphs.items():
        session, feed = _session(graph.SerializeToString(), _settings(options))
        runs[name] = lambda session=session, feed=feed: session.run(None, feed)
    timed = run_interleaved(runs, rounds=options.rounds)
    return [
        (name, statistics.quantiles(timed[name].samples_ms, n=10)[0], count.get(name, 0))
        for name in graphs
    ]


def _replaced(model: onnx.ModelProto, kind: str) -> onnx.ModelProto:
    import onnx

    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for node in changed.graph.node:
        if node.op_type == kind:
            node.CopyFrom(
                onnx.helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name)
            )
    return changed


def _settings(options: argparse.Namespace) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 3
    return settings


def _session(model: str | bytes, settings: Any) -> tuple[Any, dict[str, Any]]:
    """A session and noise for its one float32 input."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in given.shape]
    return session, {given.name: np.random.default_rng(0).normal(size=shape).astype(np.float32)}


if __name__ == "__main__":
    sys.exit(main())
