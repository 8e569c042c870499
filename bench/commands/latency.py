"""tinyvit-bench latency: how fast files are, one beside the other."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from tinyvit.bench.record import BASELINES, Scenario
from tinyvit.cli import positive_int

if TYPE_CHECKING:
    from tinyvit.bench.latency.measure import LatencyConfig
    from tinyvit.bench.record import LatencyRatio, LatencyResult, Record

HELP = "time exported files, in turns"
EXAMPLES = """\
  tinyvit-bench latency demo.onnx demo.int8.onnx --threads 2
  tinyvit-bench latency demo.onnx --scenario server --p99-ms 50
  tinyvit-bench latency demo.onnx --end-to-end photos/ --operators --json > latency.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See the package."""
    add = parser.add_argument
    add(
        "files",
        nargs="+",
        metavar="FILE",
        help="exported files; the others' times are compared with the first's",
    )
    add(
        "--scenario",
        choices=get_args(Scenario),
        default="single-stream",
        help="MLPerf's; single-stream",
    )
    add("--runtime", nargs="+", metavar="R", help="the engine, or several (the best installed one)")
    add(
        "--threads",
        nargs="+",
        type=positive_int,
        metavar="N",
        help="CPU threads, or several numbers of them (the engine's own default)",
    )
    add(
        "--batch",
        nargs="+",
        type=positive_int,
        metavar="N",
        help="pictures a query, or several (1; multi-stream and offline 8)",
    )
    add(
        "--device",
        default="auto",
        metavar="D",
        help="cpu, gpu, npu, or the engine's own name; default cpu where it has one",
    )
    add(
        "--runs",
        type=positive_int,
        default=None,
        metavar="N",
        help="queries of each file; 662, the fewest that a 99th percentile can be claimed of",
    )
    add(
        "--seconds",
        type=float,
        default=60,
        metavar="S",
        help="of each file at most; percentiles of too few runs are withheld (60)",
    )
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument(
        "--rate", type=float, metavar="Q", help="server: queries a second, arriving at random"
    )
    rate.add_argument(
        "--p99-ms",
        type=float,
        metavar="MS",
        help="server: find the highest rate whose 99th percentile is below this",
    )
    add(
        "--end-to-end",
        type=Path,
        metavar="IMAGES",
        help="time the whole way from a picture's bytes (a file, a folder) to its classes, by stage",
    )
    add(
        "--operators",
        "--profile",
        action="store_true",
        help="list what the time goes into, by the engine's own profile",
    )
    add(
        "--roofline",
        action="store_true",
        help="measure what this machine reaches at most, and the network's part of it",
    )
    add(
        "--compare-to",
        nargs="+",
        choices=BASELINES,
        default=[],
        help="time these too; tool is the engine's own benchmark",
    )
    add(
        "--cold",
        type=int,
        default=3,
        metavar="N",
        help="new processes to start for the time of a cold start; 0 for none (3)",
    )
    add("--name", metavar="NAME", help="of the device, in the record, instead of its own")
    add(
        "--json",
        action="store_true",
        help="print one record, for tinyvit-bench report and compare, instead of tables",
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 1 where a file could not be measured."""
    from tinyvit.bench.latency.measure import measure_latency

    record = measure_latency(args.files, _plan(args), name=args.name)
    for refusal in record.refusals:
        print(f"error: {refusal}", file=sys.stderr)
    if args.json:
        print(record.to_json())
    else:
        print("\n".join(lines(record)))
    return 1 if record.refusals else 0


def _plan(args: argparse.Namespace) -> LatencyConfig:
    from tinyvit.bench.latency.measure import LatencyConfig
    from tinyvit.bench.latency.percentiles import MIN_SAMPLES_ABOVE
    from tinyvit.bench.latency.workload import read_images

    return LatencyConfig(
        scenario=args.scenario,
        runtimes=tuple(args.runtime or [None]),
        threads=tuple(args.threads or [None]),
        batches=tuple(args.batch or [None]),
        device=args.device,
        runs=MIN_SAMPLES_ABOVE[0.99] if args.runs is None else args.runs,
        seconds=args.seconds,
        rate=args.rate,
        p99_ms=args.p99_ms,
        images=read_images(args.end_to_end) if args.end_to_end else (),
        cold=args.cold,
        operators=args.operators,
        roofline=args.roofline,
        rivals=tuple(args.compare_to),
    )


def lines(record: Record) -> list[str]:
    """What people read: warnings first, then the times, then what really ran."""
    device = record.device
    head = f"{device.name}: {device.cpu} ({', '.join(device.features)}), {device.cores} cores; {record.settings['timed']}, {record.date}"
    said = [f"warning: {warning}" for warning in record.warnings]
    table = [
        "| file | engine | batch | median ms | p90 | p99 | min to max | images/s | time of the first's |",
        "|---" * 9 + "|",
    ]
    table += [_times(one) for one in record.latency]
    peers = [
        f"{p.name} beside {Path(p.artifact).name}: {p.median_ms:.2f} ms, ours / theirs {_ratio(p.ratio)}"
        for p in record.peers
    ]
    return [
        head,
        *said,
        "",
        *table,
        "",
        *[line for one in record.latency for line in _ran(one)],
        *peers,
    ]


def _times(one: LatencyResult) -> str:
    engine = one.subject.engine
    cells = (
        Path(one.subject.artifact).name,
        f"{engine.get('engine')} {str(engine.get('version')).partition('-')[0]}, threads {engine.get('threads')}",
        str(one.batch),
        f"{one.median_ms:.2f}",
        _percentile(one.p90_ms, one.samples),
        _percentile(one.p99_ms, one.samples),
        "" if one.min_ms is None or one.max_ms is None else f"{one.min_ms:.2f} to {one.max_ms:.2f}",
        f"{one.images_per_s:.1f}",
        _ratio(one.ratio),
    )
    return f"| {' | '.join(cells)} |"


def _ratio(ratio: LatencyRatio | None) -> str:
    return f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})" if ratio else ""


def _percentile(value: float | None, samples: int) -> str:
    return f"withheld: {samples} runs" if value is None else f"{value:.2f}"


def _ran(one: LatencyResult) -> list[str]:
    subject = one.subject
    share = (
        ""
        if subject.int8_macs is None
        else f", {subject.int8_macs:.0%} of the multiply-accumulates in integers"
    )
    asked = (
        f"{Path(subject.artifact).name}, threads {subject.engine.get('threads')}, batch {one.batch}"
    )
    found = [
        f"{asked}: {subject.precision or 'precision unstated'} on {subject.engine.get('device')}{share}"
    ]
    if one.meets_p99_ms is not None:
        found.append(
            f"  {one.runs_per_s:.1f} queries a second, the most whose 99th percentile is below {one.meets_p99_ms:g} ms"
        )
    if one.stages_ms:
        found.append(
            "  stages: " + ", ".join(f"{stage} {ms:.2f} ms" for stage, ms in one.stages_ms.items())
        )
    if one.cold:
        peak = (
            ""
            if one.cold.peak_bytes is None
            else f", {one.cold.peak_bytes / 2**20:.0f} MiB at most"
        )
        found.append(
            f"  new process: import {one.cold.import_ms:.0f} ms, load {one.cold.load_ms:.0f}, first answer {one.cold.first_ms:.0f}{peak}"
        )
    if one.peak_share is not None:
        found.append(f"  {one.peak_share:.0%} of what this machine reaches in such products")
    found += [
        f"  {each.ms:8.2f} ms  {each.name} x {each.nodes}{' (integers)' if each.is_integer else ''}"
        for each in one.operators
    ]
    return found
