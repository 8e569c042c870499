"""The subcommand tinyvit-bench latency: measures the latency and throughput of artifacts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from tinyvit.bench.arguments import (
    add_artifacts_argument,
    add_device_argument,
    add_record_arguments,
    resolve_artifacts,
)
from tinyvit.bench.record import BASELINES, Scenario
from tinyvit.cli import positive_int
from tinyvit.progress import make_progress
from tinyvit.text.safe_text import print_error, print_lines

if TYPE_CHECKING:
    from tinyvit.bench.latency.config import LatencyConfig

HELP = "measure the latency of artifacts; several artifacts are timed in turns"
EXAMPLES = """\
  tinyvit-bench latency demo.onnx demo.int8.onnx --threads 2
  tinyvit-bench latency demo.onnx --scenario server --p99-ms 50
  tinyvit-bench latency demo.onnx --end-to-end photos/ --operators --json > latency.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand to its parser."""
    add_artifacts_argument(
        parser, "Exported files to measure. Each is compared with the first one."
    )
    _add_engine_arguments(parser)
    _add_scenario_arguments(parser)
    _add_analysis_arguments(parser)
    add_record_arguments(parser)


def _add_analysis_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--operators",
        "--profile",
        action="store_true",
        help="List the operators that take the most time, as the engine's profiler reports them.",
    )
    add(
        "--roofline",
        action="store_true",
        help="Measure the peak compute and memory rates of this machine, and report how close each"
        " artifact comes to the speed that they allow.",
    )
    add(
        "--compare-to",
        nargs="+",
        choices=BASELINES,
        default=[],
        metavar="BASELINE",
        help="Measure one or more baselines too: timm (timm's model in PyTorch), timm-compiled"
        " (timm's model with torch.compile), timm-export (timm's model exported by"
        " torch.onnx.export), or tool (the benchmark program of the engine, on the same artifact).",
    )
    add(
        "--cold",
        type=int,
        default=3,
        metavar="N",
        help="Number of new processes in which the cold start (import of the engine, load, first"
        " inference) is measured; 0 to skip it (default: 3).",
    )


def _add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--runtime",
        nargs="+",
        metavar="ENGINE",
        help="One or more engines, which are all measured (default: the best installed one).",
    )
    add(
        "--threads",
        nargs="+",
        type=positive_int,
        metavar="N",
        help="One or more numbers of CPU threads, which are all measured (default: the engine's"
        " default).",
    )
    add(
        "--batch",
        nargs="+",
        type=positive_int,
        metavar="N",
        help="One or more numbers of images per query, which are all measured (default: 1, or 8 for"
        " multi-stream and offline).",
    )
    add_device_argument(parser)


def _add_scenario_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--scenario",
        choices=get_args(Scenario),
        default="single-stream",
        help="When each query starts, as in MLPerf Inference. docs/reference/latency.md explains"
        " the scenarios (default: single-stream). A query classifies one image or a few.",
    )
    add(
        "--runs",
        type=positive_int,
        default=None,
        metavar="N",
        help="Number of queries to time per artifact (default: 662, the minimum for reporting a"
        " 99th percentile). Queries are timed in turns, so that the number is rounded up to whole"
        " turns of 12 queries, or of 11 if there are several artifacts. With --scenario server, it"
        " is not rounded.",
    )
    add(
        "--seconds",
        type=float,
        default=60,
        metavar="S",
        help="Time limit per artifact, in seconds (default: 60). If the limit is reached before"
        " there are enough queries for a percentile, the percentile is not reported.",
    )
    _add_rate_arguments(parser.add_mutually_exclusive_group())
    add(
        "--end-to-end",
        type=Path,
        metavar="IMAGES",
        help="Start each query from the bytes of image files, and end it with their classes. IMAGES"
        " is an image file or a folder. The stages (decode, resize, network, top-k) are timed"
        " separately too. Without this option, only the network is timed, on random input.",
    )


def _add_rate_arguments(group: argparse._MutuallyExclusiveGroup) -> None:
    group.add_argument(
        "--rate",
        type=float,
        metavar="Q",
        help="With --scenario server: mean number of queries per second. The queries start at"
        " random times.",
    )
    group.add_argument(
        "--p99-ms",
        type=float,
        metavar="MS",
        help="With --scenario server: search for the highest number of queries per second at which"
        " the 99th percentile of the latency is at most MS milliseconds.",
    )


def run(args: argparse.Namespace) -> int:
    """Measure the artifacts and print the record.

    Returns:
        Exit code 1 if an artifact could not be measured, otherwise 0.

    Raises:
        TinyViTError: Options contradict each other, or no artifact can be measured.
    """
    from tinyvit.bench.latency.measure import measure_latency
    from tinyvit.bench.report.console import format_latency_record

    record = measure_latency(
        resolve_artifacts(args),
        _make_config(args),
        device_name=args.name,
        progress=make_progress(json_output=args.json),
    )
    for failure in record.failures:
        print_error(failure)
    lines = [record.to_json()] if args.json else format_latency_record(record)
    print_lines(*lines)
    return 1 if record.failures else 0


def _make_config(args: argparse.Namespace) -> LatencyConfig:
    """Convert the arguments to the options of the measurement."""
    from tinyvit.bench.latency.config import LatencyConfig
    from tinyvit.bench.latency.percentiles import MIN_SAMPLES
    from tinyvit.bench.latency.queries import read_images

    # In the tuples, None stands for the default (see `LatencyConfig`).
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
