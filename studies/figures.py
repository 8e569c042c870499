"""Measures the project's published figures: latency and accuracy per target, engine and precision.

    python -m tinyvit.studies.figures --calib-data DIR --val-data DIR [-o docs/results] [--peers]

The command writes one Markdown page, which is named after the kind of machine. With 4,000 labeled
images, this takes about an hour on two cores. Exported files that are already in the folder
--artifacts, and benchmark records that are already in the folder --records, are used again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tinyvit.bench.accuracy.options import EvaluationOptions
from tinyvit.bench.accuracy.suite import SuiteConfig, evaluate_all
from tinyvit.bench.latency.config import LatencyConfig
from tinyvit.bench.latency.measure import measure_latency
from tinyvit.bench.record import DeviceInfo, Record, read_record
from tinyvit.cli import make_parser, run_guarded
from tinyvit.data.dataset import DatasetLocation, open_dataset
from tinyvit.errors import ArtifactError
from tinyvit.progress import Progress, make_progress
from tinyvit.studies.export_process import run_export
from tinyvit.studies.figures_page import (
    NO_IMAGES_FOLDER,
    SUFFIXES,
    VARIANTS,
    FigureRecords,
    format_page,
)
from tinyvit.studies.output_argument import add_output_argument
from tinyvit.studies.peers import convert_with_executorch, convert_with_litert_torch, export_pair

_BASELINES = {"peers-timm": ("timm", "timm-compiled"), "peers-tools": ("tool",)}
"""Name of a record -> the baselines in it, from `tinyvit.bench.record.BASELINES`.

"tool" is the benchmark program of the artifact's engine."""
_CONFIG = LatencyConfig(threads=(2,), runs=220, seconds=40, cold_starts=0)
"""Settings of the latency measurements; a measurement may replace some of them."""
_BASELINE_RUNS = 24
"""Number of queries per artifact in records with baselines, which are slow to measure."""
_INT8_FEATURES = ("VNNI", "AVX2", "i8mm", "dotprod")
"""Instruction sets that int8 kernels use, the best one of each architecture first.

"VNNI" stands for AVX-512 VNNI and AVX VNNI."""
_EXAMPLES = """\
  python -m tinyvit.studies.figures --calib-data train/ --val-data val/
  python -m tinyvit.studies.figures --calib-data train/ --val-data val/ --peers --records kept/"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.

    Returns:
        The exit code.
    """
    parser = make_parser(
        "python -m tinyvit.studies.figures",
        "Measure the project's published figures, and write a page for this kind of machine.",
        _EXAMPLES,
    )
    _add_arguments(parser)
    args = parser.parse_args(argv)
    return run_guarded(lambda: _run(args))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--calib-data",
        type=Path,
        required=True,
        metavar="DIR",
        help="Images for the int8 calibration.",
    )
    add(
        "--val-data",
        required=True,
        metavar="DIR",
        help="Labeled images of the demo model's classes, with one folder per class.",
    )
    add_output_argument(parser, "Folder for the page (default: docs/results).")
    add(
        "--artifacts",
        type=Path,
        metavar="DIR",
        help="Folder for the exported files. Files that it contains are used again (default: a"
        " temporary folder).",
    )
    add(
        "--records",
        type=Path,
        metavar="DIR",
        help="Folder for the benchmark records. Records that it contains are used again (default:"
        " a temporary folder).",
    )
    add(
        "--peers",
        action="store_true",
        help="Also compare with timm in PyTorch, with other exporters and with the engines' own"
        " benchmark programs; needs pip install timm torchvision.",
    )


def name_machine_kind(device: DeviceInfo) -> str:
    """Return a file name for a kind of machine: architecture and best instruction set for int8.

    Args:
        device: The machine.
    """
    int8_features = [
        name for name in _INT8_FEATURES if any(name in feature for feature in device.cpu_features)
    ]
    best_feature = int8_features[:1]  # empty if the machine has none of them
    name = "-".join([device.architecture, *best_feature])
    return name.lower().replace(" ", "-").replace("_", "-")


def _run(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as temporary:
        artifacts = args.artifacts or Path(temporary)
        record_folder = _RecordFolder(args.records or Path(temporary) / "records", make_progress())
        _export_demo(artifacts, args.calib_data)
        records = _measure(record_folder, artifacts, args.val_data, with_peers=args.peers)
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / f"{name_machine_kind(records.one_thread.device)}.md"
    path.write_text("\n".join(format_page(records)) + "\n")
    print(path)
    return 0


class _RecordFolder:
    """A folder of benchmark records. Records that are not in it are measured."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._progress = folder, progress

    def get(self, name: str, measure: Callable[[], Record]) -> Record:
        """Read a record; if it does not exist, measure it and save it first.

        Args:
            name: Name of the record's file, without the suffix.
            measure: Function that measures the record.
        """
        path = self._folder / f"{name}.json"
        if not path.is_file():
            self._progress.message(f"measuring {name}")
            path.write_text(measure().to_json() + "\n")
        return read_record(path)


def _measure(
    record_folder: _RecordFolder, artifacts: Path, val_data: str, with_peers: bool
) -> FigureRecords:
    """Read or measure all records of the page.

    Args:
        record_folder: The folder of the records.
        artifacts: Folder of the exported files.
        val_data: Folder of the labeled images.
        with_peers: Whether to include comparisons with timm and other tools.
    """
    files = _list_artifacts(artifacts, ("demo", "demo.int8"))
    no_images_files = _list_artifacts(artifacts / NO_IMAGES_FOLDER, ("demo.int8",))
    records = FigureRecords(
        one_thread=record_folder.get("latency-1", partial(_measure_latency, files, threads=1)),
        two_threads=record_folder.get("latency-2", partial(_measure_latency, files, threads=2)),
        accuracy=record_folder.get(
            "accuracy", partial(_measure_accuracy, [*files, *no_images_files], val_data)
        ),
    )
    if not with_peers:
        return records
    return replace(
        records,
        baselines=tuple(
            record_folder.get(name, partial(_measure_baselines, files, baselines))
            for name, baselines in _BASELINES.items()
        ),
        converters=record_folder.get("converters", partial(_measure_converters, files)),
        stock=tuple(
            record_folder.get(f"stock-{variant}", partial(_measure_stock, variant))
            for variant in VARIANTS
        ),
    )


def _list_artifacts(folder: Path, stems: Sequence[str]) -> list[str]:
    """Return the paths of the demo model's files in a folder, for every target that has them."""
    paths = [folder / f"{stem}{suffix}" for suffix in SUFFIXES.values() for stem in stems]
    return [str(path) for path in paths if path.is_file()]


def _measure_latency(files: Sequence[str], threads: int) -> Record:
    return measure_latency(files, replace(_CONFIG, threads=(threads,), cold_starts=1))


def _measure_accuracy(files: Sequence[str], val_data: str) -> Record:
    dataset = open_dataset(DatasetLocation(val_data))
    return evaluate_all(files, dataset, SuiteConfig(EvaluationOptions())).record


def _measure_baselines(files: Sequence[str], baselines: tuple[str, ...]) -> Record:
    """Compare timm with the ONNX file, or benchmark programs with the files that they can run."""
    if "timm" in baselines:
        measured_files = [file for file in files if Path(file).name == "demo.onnx"]
    else:
        measured_files = [file for file in files if file.endswith((".xml", ".tflite"))]
    config = LatencyConfig(threads=(2,), runs=_BASELINE_RUNS, cold_starts=0, baselines=baselines)
    return measure_latency(measured_files, config)


def _measure_stock(variant: str) -> Record:
    """Measure the stock export and this project's export of the same weights in two engines.

    The stock export is timm's model, exported by torch.onnx.export without changes.

    Args:
        variant: Name of a TinyViT variant.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(path) for path in export_pair(variant, Path(folder))]
        return measure_latency(paths, replace(_CONFIG, engine_names=("onnxruntime", "openvino")))


def _measure_converters(files: Sequence[str]) -> Record:
    """Compare this project's LiteRT and ExecuTorch files with those of the engines' converters."""
    own_files = [file for file in files if Path(file).name in ("demo.tflite", "demo.pte")]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        stock_paths = [convert_with_litert_torch(folder), convert_with_executorch(folder)]
        return measure_latency([*own_files, *map(str, stock_paths)], _CONFIG)


def _export_demo(folder: Path, calib_data: Path) -> None:
    """Export the demo model in float32 and int8, with and without images, to every target.

    A precision is skipped if its ONNX file exists already. Targets that are not installed are
    skipped too.
    """
    no_images_folder = folder / NO_IMAGES_FOLDER
    exports: tuple[tuple[Path, str, list[str]], ...] = (
        (folder, "demo.onnx", []),
        (folder, "demo.int8.onnx", ["--int8", "--calib-data", str(calib_data)]),
        (no_images_folder, "demo.int8.onnx", ["--int8"]),
    )
    for output, first_name, options in exports:
        if not (output / first_name).is_file():
            output.mkdir(parents=True, exist_ok=True)
            common = ["--model", "demo", "--target", "all", "-o", str(output), "--overwrite"]
            run_shown_export([*common, *options])


def run_shown_export(options: Sequence[str]) -> None:
    """Run tinyvit-export in another process; show the command on standard error.

    Args:
        options: Command-line options of tinyvit-export.

    Raises:
        ArtifactError: The export fails.
    """
    print(" ".join(["tinyvit-export", *options]), file=sys.stderr)
    export_error = run_export(options)
    if export_error is not None:
        command = f"tinyvit-export {' '.join(options)}"
        raise ArtifactError(f"the command '{command}' failed", export_error)


if __name__ == "__main__":
    sys.exit(main())
