"""The subcommand tinyvit-bench latency: measures latency and throughput of artifacts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from tinyvit.bench.record import BASELINES, Scenario
from tinyvit.cli import positive_int
from tinyvit.progress import make_progress

if TYPE_CHECKING:
    from tinyvit.bench.latency.config import LatencyConfig

HELP = "measure the latency of artifacts, alternating between them"
EXAMPLES = """\
  tinyvit-bench latency demo.onnx demo.int8.onnx --threads 2
  tinyvit-bench latency demo.onnx --scenario server --p99-ms 50
  tinyvit-bench latency demo.onnx --end-to-end photos/ --operators --json > latency.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand to its parser."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="ARTIFACT",
        help="Exported files to measure. Each is compared with the first.",
    )
    _add_engine_arguments(parser)
    _add_scenario_arguments(parser)
    _add_analysis_arguments(parser)
    add = parser.add_argument
    add(
        "--name",
        metavar="NAME",
        help="Device name in the record (default: name of the board or host).",
    )
    add(
        "--json",
        action="store_true",
        help="Print one JSON record instead of tables, for tinyvit-bench report and compare.",
    )


def _add_analysis_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--operators",
        "--profile",
        action="store_true",
        help="List the operators that take the most time, from the engine's profile.",
    )
    add(
        "--roofline",
        action="store_true",
        help="Measure the peak compute and memory rates of this machine, and report which share of"
        " them each artifact reaches.",
    )
    add(
        "--compare-to",
        nargs="+",
        choices=BASELINES,
        default=[],
        metavar="BASELINE",
        help="Measure baselines too: timm (timm's model in PyTorch), timm-compiled (the same with"
        " torch.compile), timm-export (the same exported by torch.onnx.export), or tool (the"
        " engine's benchmark program, on the same file).",
    )
    add(
        "--cold",
        type=int,
        default=3,
        metavar="N",
        help="Measure the cold start (import, load, first inference) in N new processes; 0 to skip"
        " it (default: 3).",
    )


def _add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--runtime",
        nargs="+",
        metavar="ENGINE",
        help="One or more engines; all of them are measured (default: the best installed one).",
    )
    add(
        "--threads",
        nargs="+",
        type=positive_int,
        metavar="N",
        help="One or more numbers of CPU threads; all of them are measured (default: the engine's"
        " default).",
    )
    add(
        "--batch",
        nargs="+",
        type=positive_int,
        metavar="N",
        help="One or more numbers of images per query; all of them are measured (default: 1, or 8"
        " for multi-stream and offline).",
    )
    add(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="cpu, gpu, npu, or the engine's own name of a device (default: cpu, if the engine"
        " has it).",
    )


def _add_scenario_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--scenario",
        choices=get_args(Scenario),
        default="single-stream",
        help="When each query (one call of the network) starts, as in MLPerf Inference: see"
        " docs/benchmarking.md (default: single-stream).",
    )
    add(
        "--runs",
        type=positive_int,
        default=None,
        metavar="N",
        help="Number of queries per artifact (default: 662, the minimum for reporting a 99th"
        " percentile).",
    )
    add(
        "--seconds",
        type=float,
        default=60,
        metavar="S",
        help="Time limit per artifact, in seconds (default: 60). If it is reached after too few"
        " queries for a percentile, that percentile is not reported.",
    )
    _add_rate_arguments(parser.add_mutually_exclusive_group())
    add(
        "--end-to-end",
        type=Path,
        metavar="IMAGES",
        help="Time decoding, resizing, network and top-k separately, on an image file or a folder"
        " of images.",
    )


def _add_rate_arguments(group: argparse._MutuallyExclusiveGroup) -> None:
    group.add_argument(
        "--rate",
        type=float,
        metavar="Q",
        help="With --scenario server: mean number of queries per second. They start at random"
        " times.",
    )
    group.add_argument(
        "--p99-ms",
        type=float,
        metavar="MS",
        help="With --scenario server: find the highest rate whose 99th percentile is below MS"
        " milliseconds.",
    )


def run(args: argparse.Namespace) -> int:
    """Measure the artifacts and print the record.

    Returns:
        Exit code 1 if an artifact could not be measured, otherwise 0.
    """
    from tinyvit.bench.latency.measure import measure_latency
    from tinyvit.bench.report.console import format_latency_record

    record = measure_latency(
        args.files,
        _make_config(args),
        device_name=args.name,
        progress=make_progress(json_output=args.json),
    )
    for failure in record.failures:
        print(f"error: {failure}", file=sys.stderr)
    print(record.to_json() if args.json else "\n".join(format_latency_record(record)))
    return 1 if record.failures else 0


def _make_config(args: argparse.Namespace) -> LatencyConfig:
    from tinyvit.bench.latency.config import LatencyConfig
    from tinyvit.bench.latency.percentiles import MIN_SAMPLES
    from tinyvit.bench.latency.queries import read_images

    return LatencyConfig(
        scenario=args.scenario,
        engine_names=tuple(args.runtime or [None]),
        threads=tuple(args.threads or [None]),
        batches=tuple(args.batch or [None]),
        device=args.device,
        runs=MIN_SAMPLES[0.99] if args.runs is None else args.runs,
        seconds=args.seconds,
        rate=args.rate,
        p99_ms=args.p99_ms,
        images=read_images(args.end_to_end) if args.end_to_end else (),
        cold_starts=args.cold,
        operators=args.operators,
        roofline=args.roofline,
        baselines=tuple(args.compare_to),
    )
