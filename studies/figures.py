"""The project's own figures, all by one command: every target and precision, our export beside the stock one, other tools, accuracy.

    python -m tinyvit.studies.figures --calib-data DIR --val-data DIR [-o docs/results] [--artifacts DIR] [--peers]

Writes one file for this kind of machine, with its facts. Takes about half an hour on two cores; --artifacts and --records name folders
where files and records are kept, and taken from the next time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tinyvit.bench.accuracy.datasets import Place, open_dataset
from tinyvit.bench.accuracy.options import EvaluationOptions
from tinyvit.bench.accuracy.suite import evaluate_all
from tinyvit.bench.latency.interleave import Timing
from tinyvit.bench.latency.measure import LatencyConfig, measure_latency
from tinyvit.bench.latency.percentiles import ratio_interval
from tinyvit.bench.record import AccuracyResult, DeviceInfo, LatencyResult, Record, read_record
from tinyvit.cli import make_parser, run_guarded
from tinyvit.errors import ArtifactError
from tinyvit.runtimes import processor as cpu
from tinyvit.studies.peers import make_pair, stock_executorch, stock_litert

TARGETS = {
    "onnx": ".onnx",
    "ort": ".ort",
    "openvino": ".xml",
    "executorch": ".pte",
    "litert": ".tflite",
}
"""Those that run on a processor, and the suffix of each."""
_VARIANTS = ("tiny_vit_5m_224", "tiny_vit_21m_224", "tiny_vit_21m_512")
_PEERS = {"peers-timm": ("timm", "timm-compiled"), "peers-tools": ("tool",)}
_RUNS, _SECONDS = 220, 40
_EXAMPLE = "  python -m tinyvit.studies.figures --calib-data train/ --val-data val/ --peers --records records/"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    made = make_parser(
        "python -m tinyvit.studies.figures",
        "The project's own figures, into one file for this kind of machine.",
        _EXAMPLE,
    )
    made.add_argument(
        "--calib-data",
        type=Path,
        required=True,
        metavar="DIR",
        help="images to calibrate int8 with",
    )
    made.add_argument(
        "--val-data",
        required=True,
        metavar="DIR",
        help="class folders of the demo model's ten classes",
    )
    made.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("docs/results"),
        metavar="DIR",
        help="default: docs/results",
    )
    made.add_argument(
        "--artifacts",
        type=Path,
        metavar="DIR",
        help="exported files, made there where there are none (a temporary folder)",
    )
    made.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        help="keep the records, for tinyvit-bench report; those there are not measured again",
    )
    made.add_argument(
        "--peers",
        action="store_true",
        help="beside timm in torch and each engine's own tool too (pip install timm torchvision)",
    )
    args = made.parse_args(argv)
    return run_guarded(lambda: _run(args))


def kind(device: DeviceInfo) -> str:
    """What kind of machine it is, as a file's name: the architecture, and what decides how fast int8 is."""
    deciding = [
        name
        for name in ("VNNI", "AVX VNNI", "AVX2", "i8mm", "dotprod")
        if any(name in each for each in device.features)
    ]
    return "-".join([device.machine, *deciding[:1]]).lower().replace(" ", "-").replace("_", "-")


def _run(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as temporary:
        folder, kept = (
            args.artifacts or Path(temporary),
            args.records or Path(temporary) / "records",
        )
        kept.mkdir(parents=True, exist_ok=True)
        _export(folder, args.calib_data)
        files = [
            str(path)
            for suffix in TARGETS.values()
            for name in ("demo", "demo.int8")
            if (path := folder / f"{name}{suffix}").is_file()
        ]
        plans = [
            LatencyConfig(threads=(threads,), runs=_RUNS, seconds=_SECONDS, cold=1)
            for threads in (1, 2)
        ]
        one, two = (
            _record(kept / f"latency-{i + 1}.json", partial(measure_latency, files, plan))
            for i, plan in enumerate(plans)
        )
        judged = _record(
            kept / "accuracy.json",
            lambda: (
                evaluate_all(files, open_dataset(Place(args.val_data)), EvaluationOptions()).record
            ),
        )
        peers = [
            _record(kept / f"{name}.json", partial(_beside, files, names))
            for name, names in _PEERS.items()
            if args.peers
        ]
        own = _record(kept / "converters.json", partial(_converters, files)) if args.peers else None
        stock = [
            _record(kept / f"stock-{variant}.json", partial(_stock, variant))
            for variant in _VARIANTS
            if args.peers
        ]
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / f"{kind(one.device)}.md"
    path.write_text("\n".join(_page(one, two, judged, peers, own, stock)) + "\n")
    print(path)
    return 0


def _record(path: Path, made: Callable[[], Record]) -> Record:
    """The record at `path`, measured where it is not there yet."""
    if not path.is_file():
        print(f"measuring {path.stem}", file=sys.stderr)
        path.write_text(made().to_json() + "\n")
    return read_record(path)


def _beside(files: Sequence[str], names: Sequence[str]) -> Record:
    """timm beside the ONNX file, or each engine's own tool beside the files that it has one for here."""
    chosen = [
        file
        for file in files
        if (
            Path(file).name == "demo.onnx"
            if "timm" in names
            else file.endswith((".xml", ".tflite"))
        )
    ]
    return measure_latency(
        chosen, LatencyConfig(threads=(2,), runs=24, cold=0, rivals=tuple(names))
    )


def _export(folder: Path, images: Path) -> None:
    """The demo model's files of every target that is installed, both precisions, where they are not there yet."""
    command = [
        sys.executable,
        "-m",
        "tinyvit.export.cli",
        "--model",
        "demo",
        "--target",
        "all",
        "-o",
        str(folder),
        "--overwrite",
    ]
    if not (folder / "demo.onnx").is_file():
        _called(command)
    if not (folder / "demo.int8.onnx").is_file():
        _called([*command, "--int8", "--calib-data", str(images)])


def _called(command: Sequence[str]) -> None:
    print(" ".join(["tinyvit-export", *command[3:]]), file=sys.stderr)
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise ArtifactError(
            "an export failed", (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        )


def _stock(variant: str) -> Record:
    """The stock export and ours of the same weights, in two engines."""
    with tempfile.TemporaryDirectory() as folder:
        stock, ours = make_pair(variant, Path(folder))
        return measure_latency(
            [str(stock), str(ours)],
            LatencyConfig(
                runtimes=("onnxruntime", "openvino"),
                threads=(2,),
                runs=_RUNS,
                seconds=_SECONDS,
                cold=0,
            ),
        )


def _converters(files: Sequence[str]) -> Record:
    """Our files for LiteRT and ExecuTorch beside what litert-torch and ExecuTorch make of the demo model by themselves."""
    ours = [file for file in files if Path(file).name in ("demo.tflite", "demo.pte")]
    with tempfile.TemporaryDirectory() as folder:
        theirs = [str(make(Path(folder))) for make in (stock_litert, stock_executorch)]
        return measure_latency(
            [*ours, *theirs], LatencyConfig(threads=(2,), runs=_RUNS, seconds=_SECONDS, cold=0)
        )


def _page(
    one: Record,
    two: Record,
    judged: Record,
    peers: Sequence[Record],
    own: Record | None,
    stock: Sequence[Record],
) -> list[str]:
    device = two.device
    memory = f"{(device.memory_bytes or 0) / 2**30:.0f} GiB"
    lines = [
        f"# {device.machine}, {device.cpu}",
        "",
        f"{cpu.describe(cpu.cpuinfo())}, {device.cores} cores, {memory}; {two.date}; {two.tool}.",
        "",
        "Made by `python -m tinyvit.studies.figures`, and by it alone. Times are of a shared machine: look at the ratios, medians over",
        "turns of all files in one process, with their 95% intervals.",
        "",
        *[f"- {line}" for line in dict.fromkeys(_about(two) + _about(one))],
        *["", "## int8 beside float32, demo model", ""],
        *_int8(one, two, judged),
        *["", "## Every engine beside onnxruntime's float32", ""],
        *_engines(one, two),
    ]
    if stock:
        lines += [
            "",
            "## Our export beside the stock one (`torch.onnx.export` of timm's model), float32, two threads",
            "",
            *_stocks(stock),
        ]
    if own:
        lines += [
            "",
            "## Beside each engine's own converter (litert-torch, ExecuTorch), float32, two threads",
            "",
            *_owns(own),
        ]
    if peers:
        lines += ["", "## Beside other tools, two threads", "", *_peers(peers)]
    return lines


def _about(record: Record) -> list[str]:
    return [line for line in record.warnings if "became" not in line and "steady" not in line]


def _int8(one: Record, two: Record, judged: Record) -> list[str]:
    lines = [
        f"Top-1 of {judged.accuracy[0].images} pictures; float32: {judged.accuracy[0].top1:.1f}%.",
        "",
        "| target | top-1 (95% interval) | same answer as `demo.onnx` | size / float32 | time / float32, 1 thread | 2 threads | integers |",
        "|---|---|---|---|---|---|---|",
    ]
    answers: dict[str, AccuracyResult] = {_name(each): each for each in judged.accuracy}
    for target, suffix in TARGETS.items():
        single, double = _by_name(one), _by_name(two)
        before, after = f"demo{suffix}", f"demo.int8{suffix}"
        if after not in single or before not in single:
            continue
        right, size = (
            answers[after],
            single[after].subject.size_bytes / single[before].subject.size_bytes,
        )
        cells = (
            f"`{target}`",
            f"{right.top1:.1f} ({right.top1_interval[0]:.1f} to {right.top1_interval[1]:.1f})",
            f"{right.against.agreement:.1f}%" if right.against else "",
            f"{size:.2f}",
            _ratio(single[after], single[before]),
            _ratio(double[after], double[before]),
            "" if (share := double[after].subject.int8_macs) is None else f"{share:.0%}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _engines(one: Record, two: Record) -> list[str]:
    lines = [
        "| file | engine | MB | ms, one thread | / `demo.onnx` | ms, two threads | / `demo.onnx` | cold start ms | peak MiB |",
        "|---" * 9 + "|",
    ]
    single, double = _by_name(one), _by_name(two)
    for name, each in double.items():
        engine, cold = each.subject.engine, each.cold
        started = (
            f"{cold.import_ms + cold.load_ms + cold.first_ms:.0f} | {(cold.peak_bytes or 0) / 2**20:.0f}"
            if cold
            else " | "
        )
        lines.append(
            f"| {name} | {engine.get('engine')} {str(engine.get('version')).partition('-')[0]} | {each.subject.size_bytes / 1e6:.1f} "
            f"| {single[name].median_ms:.1f} | {_ratio(single[name], single['demo.onnx'])} "
            f"| {each.median_ms:.1f} | {_ratio(each, double['demo.onnx'])} | {started} |"
        )
    return lines


def _stocks(records: Sequence[Record]) -> list[str]:
    lines = ["| variant | engine | stock ms | ours ms | ours / stock |", "|---|---|---|---|---|"]
    for variant, record in zip(_VARIANTS, records):
        for engine in ("onnxruntime", "openvino"):
            stock, ours = (
                each for each in record.latency if each.subject.engine.get("engine") == engine
            )
            lines.append(
                f"| {variant} | {engine} | {stock.median_ms:.1f} | {ours.median_ms:.1f} | {_ratio(ours, stock)} |"
            )
    return lines


def _owns(record: Record) -> list[str]:
    found = _by_name(record)
    lines = ["| engine | its own ms | ours ms | ours / its own |", "|---|---|---|---|"]
    for engine, suffix in (("LiteRT", ".tflite"), ("ExecuTorch", ".pte")):
        stock, ours = found[f"stock{suffix}"], found[f"demo{suffix}"]
        lines.append(
            f"| {engine} | {stock.median_ms:.1f} | {ours.median_ms:.1f} | {_ratio(ours, stock)} |"
        )
    return lines


def _peers(records: Sequence[Record]) -> list[str]:
    lines = ["| file | tool | its median ms | ours / its |", "|---|---|---|---|"]
    for each in (peer for record in records for peer in record.peers):
        interval = f"{each.ratio.median:.2f} ({each.ratio.low:.2f} to {each.ratio.high:.2f})"
        lines.append(
            f"| {Path(each.artifact).name} | {each.name} | {each.median_ms:.1f} | {interval} |"
        )
    return lines


def _ratio(ours: LatencyResult, theirs: LatencyResult) -> str:
    found = ratio_interval(Timing(ours.turns_ms), Timing(theirs.turns_ms))
    return "1" if ours is theirs else f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"


def _by_name(record: Record) -> dict[str, LatencyResult]:
    return {_name(each): each for each in record.latency}


def _name(each: LatencyResult | AccuracyResult) -> str:
    return Path(each.subject.artifact).name


if __name__ == "__main__":
    sys.exit(main())
