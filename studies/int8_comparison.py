"""Compares int8 model files with the float32 file: size, latency, accuracy, integer kernels.

    python -m tinyvit.studies.int8_comparison FLOAT.onnx INT8.onnx [INT8.xml ...] --val-data DIR

Every int8 file runs in each installed engine that opens it (such as onnxruntime or OpenVINO), and
is compared with the float32 file in the same engine. With --peers and --calib-data, the table also
contains int8 files by the tools nncf and onnxruntime, mostly with their default settings (see
`other_quantizers`). These tools quantize timm's model with the same weights, exported by
torch.onnx.export without changes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import tinyvit
from tinyvit.bench.machine import describe_cpu
from tinyvit.cli import make_parser, run_guarded
from tinyvit.data.class_folders import read_labeled_images
from tinyvit.errors import ArtifactError, RequestError
from tinyvit.manifest import Manifest
from tinyvit.metrics import agreement
from tinyvit.runtimes.artifact import detect_format, read_artifact
from tinyvit.runtimes.registry import engines_for_format, is_installed
from tinyvit.studies.engine_comparison import (
    RUNS_PER_TURN,
    ComparisonConfig,
    EngineComparison,
    TopClasses,
)
from tinyvit.studies.other_quantizers import (
    ComparedFile,
    OtherQuantizersConfig,
    quantize_with_other_tools,
)
from tinyvit.studies.peers import check_export_packages

_DEMO_WEIGHTS = Path(tinyvit.__file__).with_name("assets") / "demo.safetensors"
_EXAMPLES = """\
  python -m tinyvit.studies.int8_comparison demo.onnx demo-int8.onnx demo-int8.xml --val-data val
  python -m tinyvit.studies.int8_comparison demo.onnx demo-int8.onnx --val-data val \\
      --calib-data train --peers --out int8.md"""
_TABLE_HEAD = """\
| file | engine | size | time | top-1 | worse / better | agreement | integer MACs |
|---|---|---|---|---|---|---|---|"""
# "worse" counts the images that only the float32 file classifies correctly, "better" those that
# only the int8 file classifies correctly.


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program name; None for `sys.argv[1:]`.

    Returns:
        The exit code.
    """
    parser = make_parser(
        "python -m tinyvit.studies.int8_comparison",
        "Compare int8 model files with the float32 file: size, latency, accuracy, and the share of"
        " multiply-accumulates that run in integer kernels.",
        _EXAMPLES,
    )
    _add_arguments(parser)
    options = parser.parse_args(argv)
    return run_guarded(lambda: _print_table(options))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "float32",
        type=Path,
        metavar="FLOAT.onnx",
        help="the float32 artifact with which all other files are compared",
    )
    parser.add_argument(
        "int8",
        type=Path,
        nargs="+",
        metavar="INT8",
        help="int8 files of the same model (.onnx or .xml)",
    )
    parser.add_argument(
        "--val-data",
        type=Path,
        required=True,
        metavar="DIR",
        help="images for measuring accuracy, in folders named by WordNet id or label",
    )
    _add_peers_arguments(parser)
    parser.add_argument(
        "--rounds",
        type=int,
        default=60,
        metavar="N",
        help="timing rounds; in each of them, the int8 and the float32 file run 6 times (default:"
        " 60)",
    )
    parser.add_argument(
        "--threads", type=int, default=2, metavar="N", help="CPU threads (default: 2)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="also write the table to this file"
    )


def _add_peers_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --peers, and the options that it needs."""
    parser.add_argument(
        "--peers",
        action="store_true",
        help="also compare int8 files that nncf and onnxruntime make from timm's model; this needs"
        " --calib-data, and the packages timm, torchvision and nncf",
    )
    parser.add_argument(
        "--calib-data",
        type=Path,
        metavar="DIR",
        help="images with which nncf and onnxruntime calibrate; needed with --peers",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        default=_DEMO_WEIGHTS,
        metavar="FILE",
        help="checkpoint (.safetensors) from which FLOAT.onnx was exported, for --peers (default:"
        " that of the demo model)",
    )


def _print_table(options: argparse.Namespace) -> int:
    """Print the table, each row as soon as it is measured; return the exit code."""
    manifest = read_artifact(options.float32).manifest
    if manifest is None or manifest.precision != "float32":
        raise ArtifactError(
            f"{options.float32} is not a float32 file that tinyvit-export wrote",
            "export the same weights with tinyvit-export and without --int8",
        )
    if options.peers and options.calib_data is None:
        raise RequestError("--peers needs images for calibration", "give --calib-data too")
    images = read_labeled_images(options.val_data, manifest.labels)
    config = ComparisonConfig(
        float32_path=options.float32,
        images=images,
        preprocess=manifest.preprocess,
        labels=manifest.labels,
        threads=options.threads,
        rounds=options.rounds,
    )
    with tempfile.TemporaryDirectory() as folder:
        files = _list_files(options, manifest, Path(folder))
        lines = [_describe_conditions(config), _TABLE_HEAD]
        print("\n".join(lines), flush=True)
        lines += _print_rows(config, files, options.int8)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def _print_rows(
    config: ComparisonConfig, files: Sequence[ComparedFile], int8_paths: Sequence[Path]
) -> list[str]:
    """Compare all files, engine by engine.

    Args:
        config: The images and settings.
        files: The int8 files to compare.
        int8_paths: Paths of the int8 files that the user gave; other tools made the other files.

    Returns:
        The lines below the table head, which are also printed one by one.
    """
    lines: list[str] = []

    def print_and_keep(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    top_classes: dict[ComparedFile, TopClasses] = {}
    for engine in dict.fromkeys(file.engine for file in files):
        with EngineComparison(config, engine) as comparison:
            print_and_keep(comparison.make_float32_row())
            for file in files:
                if file.engine == engine:
                    print_and_keep(comparison.make_int8_row(file))
            top_classes.update(comparison.top_classes)
    classes_of_given_files = {file: top_classes[file] for file in files if file.path in int8_paths}
    for line in _format_agreements(classes_of_given_files):
        print_and_keep(line)
    return lines


def _list_files(
    options: argparse.Namespace, manifest: Manifest, folder: Path
) -> list[ComparedFile]:
    """List the int8 files that the user gave, each once per engine, and those of other tools."""
    files = [
        ComparedFile(path.name, path, engine)
        for path in options.int8
        for engine in engines_for_format(detect_format(path))
        if is_installed(engine)
    ]
    if options.peers:
        check_export_packages()
        files += quantize_with_other_tools(
            OtherQuantizersConfig(
                float32_path=options.float32,
                manifest=manifest,
                weights=options.weights,
                calib_data=options.calib_data,
                folder=folder,
            )
        )
    return files


def _describe_conditions(config: ComparisonConfig) -> str:
    """Return the line above the table: processor, threads, rounds and number of images."""
    timed_runs_per_turn = RUNS_PER_TURN - 1  # the first run of a turn is not timed
    return (
        f"{describe_cpu()}; {config.threads} threads, batch 1, up to {config.rounds} alternating"
        f" turns of {timed_runs_per_turn} runs; {len(config.images)} images\n"
    )


def _format_agreements(top_classes: Mapping[ComparedFile, TopClasses]) -> list[str]:
    """Return lines with the agreement of every two files that ran in different engines."""
    lines = [
        f"- {first.name} in {first.engine} and {second.name} in {second.engine}:"
        f" {agreement(top_classes[first], top_classes[second]):.1f}%"
        for first, second in combinations(top_classes, 2)
        if first.engine != second.engine
    ]
    return ["\nAgreement between engines:\n", *lines] if lines else []


if __name__ == "__main__":
    sys.exit(main())
