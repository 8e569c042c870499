"""The subcommand tinyvit-bench accuracy: measures artifacts on labeled images."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.cli import positive_int
from tinyvit.errors import RequestError
from tinyvit.progress import Progress, make_progress

if TYPE_CHECKING:
    from tinyvit.bench.accuracy.suite import SuiteConfig, SuiteResult
    from tinyvit.bench.record import Record
    from tinyvit.data.dataset import Dataset

HELP = "measure the accuracy of artifacts on ImageNet's validation images or your own"
EXAMPLES = """\
  tinyvit-bench accuracy demo.onnx --data val/
  tinyvit-bench accuracy demo.onnx demo.int8.onnx --data val/ --contact-sheet worst.png
  tinyvit-bench accuracy tinyvit_5m.onnx --data ILSVRC2012_img_val.tar \\
    --truth ILSVRC2012_devkit_t12.tar.gz --resume val.journal
  tinyvit-bench accuracy demo.onnx --data val/ --preprocess-check"""
_NOT_WITH_CHECK = ("reference", "contact_sheet", "resume", "predictions")
"""Options that have no meaning with --preprocess-check."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand to its parser."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="ARTIFACT",
        help="Exported files of one model. The others are compared with the first.",
    )
    _add_data_arguments(parser)
    _add_analysis_arguments(parser)
    _add_engine_arguments(parser)
    add = parser.add_argument
    add(
        "--resume",
        type=Path,
        metavar="FILE",
        help="Keep the predictions in this journal. If the run is interrupted, the same command"
        " continues from it.",
    )
    add(
        "--ray",
        nargs="?",
        const="",
        metavar="HOST:PORT",
        help="Share the work on a Ray cluster (without HOST:PORT: one on this machine).",
    )
    add(
        "--progress",
        action="store_true",
        help="Show progress on standard error even with --json.",
    )
    add("--name", metavar="NAME", help="Device name to record (default: host name).")
    add(
        "--json",
        action="store_true",
        help="Print one record, for tinyvit-bench report and compare, instead of tables.",
    )


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--data",
        required=True,
        metavar="PATH",
        help="Labeled images: a folder or an uncompressed .tar file with one folder per class,"
        " named by WordNet id or label; the same without class folders, with --truth; or hf:REPO,"
        " a dataset of the Hugging Face Hub.",
    )
    add(
        "--truth",
        type=Path,
        metavar="FILE",
        help="Classes of images that are not in class folders: ILSVRC's devkit (.tar.gz), a table"
        " (.csv), or ImageNet-ReaL's real.json.",
    )
    add(
        "--limit",
        type=positive_int,
        metavar="N",
        help="Use N images, drawn evenly from the classes (default: all).",
    )
    add(
        "--only-known-classes",
        action="store_true",
        help="Leave out images of classes that the model does not have.",
    )


def _add_analysis_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--preprocess",
        choices=("artifact", "paper", "timm"),
        default="artifact",
        help="Preprocessing: the artifact's own, that of the TinyViT paper, or timm's (default:"
        " artifact).",
    )
    add(
        "--preprocess-check",
        action="store_true",
        help="Try the usual mistakes in preprocessing on 500 images (or --limit), and say whether"
        " one of them is better than the artifact's own preprocessing.",
    )
    add(
        "--reference",
        metavar="ARTIFACT",
        help="Compare with this artifact (default: the first of several).",
    )
    add(
        "--contact-sheet",
        type=Path,
        metavar="PNG",
        help="Draw the wrongly classified images; of two artifacts, those that only the reference"
        " classifies correctly.",
    )
    add(
        "--predictions",
        action="store_true",
        help="Record the predicted class of every image.",
    )


def _add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--runtime", metavar="ENGINE", help="Engine (default: the best installed one).")
    add(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="cpu, gpu, npu, or the engine's own name of a device (default: cpu, if the engine"
        " has it).",
    )
    add(
        "--threads",
        type=positive_int,
        metavar="N",
        help="CPU threads (default: the engine's default).",
    )


def run(args: argparse.Namespace) -> int:
    """Measure the artifacts and print the record.

    Returns:
        Exit code 1 if an artifact could not be measured, otherwise 0.

    Raises:
        RequestError: Options contradict each other, or the data cannot be used.
    """
    from tinyvit.bench.accuracy.hub import open_labeled_images
    from tinyvit.bench.accuracy.preprocess_check import DEFAULT_IMAGES
    from tinyvit.bench.accuracy.suite import record_preprocess_check
    from tinyvit.bench.report.console import format_accuracy_record, format_preprocess_check
    from tinyvit.data.dataset import DatasetLocation

    _require_compatible(args)
    progress = make_progress(json_output=args.json and not args.progress)
    limit = args.limit or (DEFAULT_IMAGES if args.preprocess_check else None)
    dataset = open_labeled_images(DatasetLocation(args.data, args.truth, limit))
    progress.message(f"measuring on {dataset.source}")
    if args.preprocess_check:
        record = record_preprocess_check(args.files[0], dataset, _make_config(args), progress)
        lines = format_preprocess_check(record)
    else:
        record = _evaluate(args, dataset, progress)
        lines = format_accuracy_record(record)
    for failure in record.failures:
        print(f"error: {failure}", file=sys.stderr)
    print(record.to_json() if args.json else "\n".join(lines))
    return 1 if record.failures else 0


def _require_compatible(args: argparse.Namespace) -> None:
    """Raise RequestError for options that contradict each other, before anything is measured."""
    if args.preprocess_check:
        if len(args.files) > 1:
            raise RequestError(
                f"--preprocess-check takes one artifact, and {len(args.files)} are given",
                "give one artifact",
            )
        names = [name for name in _NOT_WITH_CHECK if getattr(args, name)]
        names += ["ray"] if args.ray is not None else []
        if names:
            options = " and ".join(f"--{name.replace('_', '-')}" for name in names)
            raise RequestError(
                f"--preprocess-check cannot be used with {options}",
                f"omit {options}, or omit --preprocess-check",
            )
    artifacts = {*args.files, *([args.reference] if args.reference else [])}
    if args.contact_sheet and len(artifacts) > 2:
        raise _contact_sheet_error(len(artifacts))


def _contact_sheet_error(artifacts: int) -> RequestError:
    return RequestError(
        f"--contact-sheet shows one artifact, alone or against a reference, and {artifacts} are"
        " given",
        "give one artifact or two",
    )


def _make_config(args: argparse.Namespace) -> SuiteConfig:
    from tinyvit.bench.accuracy.options import EvaluationOptions
    from tinyvit.bench.accuracy.suite import SuiteConfig

    options = EvaluationOptions(
        runtime=args.runtime,
        device=args.device,
        threads=args.threads,
        preprocess=args.preprocess,
        only_known=args.only_known_classes,
        journal=args.resume,
        ray_address=args.ray,
    )
    return SuiteConfig(options, args.reference, args.name, args.predictions)


def _evaluate(args: argparse.Namespace, dataset: Dataset, progress: Progress) -> Record:
    from tinyvit.bench.accuracy.suite import evaluate_all

    result = evaluate_all(args.files, dataset, _make_config(args), progress)
    if args.contact_sheet:
        _write_contact_sheet(result, args.contact_sheet)
    return result.record


def _write_contact_sheet(result: SuiteResult, path: Path) -> None:
    from tinyvit.bench.accuracy.contact_sheet import write_contact_sheet

    evaluations = [e for e in result.evaluations if e is not result.reference]
    if len(evaluations) != 1:
        raise _contact_sheet_error(len(result.evaluations))
    count = write_contact_sheet(evaluations[0], result.reference, path)
    message = (
        f"{path} shows {count} images" if count else f"no image is wrong, so {path} is not written"
    )
    print(message, file=sys.stderr)
