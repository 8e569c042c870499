"""The subcommand tinyvit-bench accuracy: measures the top-1 and top-5 accuracy of artifacts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.bench.arguments import (
    add_artifacts_argument,
    add_device_argument,
    add_record_arguments,
    resolve_artifacts,
)
from tinyvit.cli import positive_int
from tinyvit.errors import RequestError
from tinyvit.progress import Progress, make_progress
from tinyvit.runtimes.commands.engine_arguments import add_streams_argument
from tinyvit.runtimes.commands.model_argument import resolve_model
from tinyvit.text.plurals import format_count
from tinyvit.text.safe_text import print_error, print_lines

if TYPE_CHECKING:
    from tinyvit.bench.accuracy.suite import SuiteConfig, SuiteResult
    from tinyvit.bench.record import Record
    from tinyvit.data.dataset import Dataset

HELP = "measure the accuracy of artifacts on ImageNet's validation images or on your own images"
EXAMPLES = """\
  tinyvit-bench accuracy demo.onnx --data val/
  tinyvit-bench accuracy demo.onnx demo.int8.onnx --data val/ --contact-sheet worst.png
  tinyvit-bench accuracy tinyvit_5m.onnx --data ILSVRC2012_img_val.tar \\
    --truth ILSVRC2012_devkit_t12.tar.gz --resume val.journal
  tinyvit-bench accuracy demo.onnx --data val/ --preprocess-check"""
_REFUSED_WITH_CHECK = ("reference", "contact_sheet", "resume", "predictions")
"""Options that cannot be used with --preprocess-check. Each was given if its value is true. The
options --preprocess and --ray cannot be used either, but this rule does not apply to them."""
_MAX_CONTACT_SHEET_ARTIFACTS = 2
"""One artifact, and the reference with which it is compared."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand to its parser."""
    add_artifacts_argument(
        parser,
        "Exported files of one model. Each is compared with the first one, or with --reference.",
    )
    _add_data_arguments(parser)
    _add_analysis_arguments(parser)
    _add_engine_arguments(parser)
    add = parser.add_argument
    add(
        "--resume",
        type=Path,
        metavar="FILE",
        help="File in which the predictions are saved during the run. After an interruption, the"
        " same command continues from it.",
    )
    add(
        "--ray",
        nargs="?",
        const="",
        type=str,  # "ray://HOST:PORT" is possible
        metavar="HOST:PORT",
        help="Distribute the images over the Ray cluster at HOST:PORT. Without HOST:PORT, a new"
        " cluster is started on this machine.",
    )
    add(
        "--progress",
        action="store_true",
        help="Show progress on standard error even with --json.",
    )
    add_record_arguments(parser)


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--data",
        required=True,
        metavar="PATH",
        help="Labeled images: a folder, an uncompressed .tar file, a .txt file with the path of an"
        " image, a tab and its class in each line, or hf:REPO, a dataset of the Hugging Face Hub. A"
        " folder or .tar file contains one folder per class, whose name is a WordNet id or a label."
        " With --truth, class folders are not needed.",
    )
    add(
        "--truth",
        type=Path,
        metavar="FILE",
        help="File that states the classes of images that are not in class folders: ILSVRC's devkit"
        " (.tar.gz), a table (.csv), or ImageNet-ReaL's real.json.",
    )
    add(
        "--limit",
        type=positive_int,
        metavar="N",
        help="Use only N images, the same number of each class if possible (default: all images).",
    )
    add(
        "--only-known-classes",
        action="store_true",
        help="Skip images of classes that the model does not have, instead of reporting an error.",
    )


def _add_analysis_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--preprocess",
        choices=("artifact", "paper", "timm"),
        default="artifact",
        help="Preprocessing of the images: as stated in the manifest of the artifact, as in the"
        " evaluation of the TinyViT paper, or as in timm's evaluation (default: artifact).",
    )
    add(
        "--preprocess-check",
        action="store_true",
        help="Check the preprocessing: measure the accuracy with other kinds of preprocessing too,"
        " such as BGR channels or another mean, and report whether one of them is significantly"
        " better. Uses 500 images unless --limit is given.",
    )
    add(
        "--reference",
        metavar="ARTIFACT",
        help="Artifact with which the others are compared (default: the first one of several).",
    )
    add(
        "--contact-sheet",
        type=Path,
        metavar="PNG",
        help="Write an image that shows up to 48 misclassified images. If there is a reference"
        " artifact, only images that the reference classifies correctly are shown.",
    )
    add(
        "--predictions",
        action="store_true",
        help="Include the predicted class of every image in the record.",
    )


def _add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--runtime", metavar="ENGINE", help="Engine (default: the best installed one).")
    add_device_argument(parser)
    add(
        "--threads",
        type=positive_int,
        metavar="N",
        help="Number of CPU threads (default: the engine's default).",
    )
    add_streams_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Measure the artifacts and print the record.

    Returns:
        Exit code 1 if an artifact could not be measured, otherwise 0.

    Raises:
        RequestError: Options contradict each other, the dataset cannot be read, or its classes do
            not match those of the model.
    """
    from tinyvit.bench.accuracy.hub import open_labeled_images
    from tinyvit.bench.accuracy.preprocess_check import DEFAULT_IMAGES
    from tinyvit.bench.accuracy.suite import record_preprocess_check
    from tinyvit.bench.report.console import format_accuracy_record, format_preprocess_check
    from tinyvit.data.dataset import DatasetLocation

    _require_compatible_options(args)
    args.files = resolve_artifacts(args)
    if args.reference is not None:
        args.reference = resolve_model(args.reference)
    progress = make_progress(json_output=args.json and not args.progress)
    limit = args.limit or (DEFAULT_IMAGES if args.preprocess_check else None)
    location = DatasetLocation(args.data, args.truth, limit=limit)
    dataset = open_labeled_images(location)
    progress.message(f"measuring on {dataset.description}")
    if args.preprocess_check:
        record = record_preprocess_check(args.files[0], dataset, _make_config(args), progress)
        lines = format_preprocess_check(record)
    else:
        record = _evaluate(args, dataset, progress)
        lines = format_accuracy_record(record)
    for failure in record.failures:
        print_error(failure)
    print_lines(*([record.to_json()] if args.json else lines))
    return 1 if record.failures else 0


def _require_compatible_options(args: argparse.Namespace) -> None:
    """Raise TinyViTError if options contradict each other, or need a package that is missing."""
    if args.preprocess_check:
        _refuse_options_with_check(args)
    if args.ray is not None:
        from tinyvit.bench.ray_cluster import require_ray

        require_ray()
    artifacts = {*args.files, *([args.reference] if args.reference else [])}
    if args.contact_sheet and len(artifacts) > _MAX_CONTACT_SHEET_ARTIFACTS:
        raise RequestError(
            "--contact-sheet takes one artifact, or one artifact and its reference, but"
            f" {len(artifacts)} artifacts are given",
            "give one or two artifacts",
        )


def _refuse_options_with_check(args: argparse.Namespace) -> None:
    """Raise RequestError if an argument cannot be used with --preprocess-check."""
    if len(args.files) > 1:
        raise RequestError(
            f"--preprocess-check takes one artifact, but {len(args.files)} are given",
            "give one artifact",
        )
    refused_names = [name for name in _REFUSED_WITH_CHECK if getattr(args, name)]
    if args.preprocess != "artifact":  # the check starts from the artifact's own preprocessing
        refused_names.append("preprocess")
    if args.ray is not None:  # "" for --ray without an address
        refused_names.append("ray")
    if refused_names:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in refused_names)
        raise RequestError(
            f"--preprocess-check cannot be used with {options}",
            f"omit {options}, or omit --preprocess-check",
        )


def _make_config(args: argparse.Namespace) -> SuiteConfig:
    """Convert the arguments to the configuration of the measurement."""
    from tinyvit.bench.accuracy.options import EvaluationOptions
    from tinyvit.bench.accuracy.suite import SuiteConfig

    options = EvaluationOptions(
        engine_name=args.runtime,
        device=args.device,
        threads=args.threads,
        streams=args.streams,
        preprocess=args.preprocess,
        only_known_classes=args.only_known_classes,
        journal_path=args.resume,
        ray_address=args.ray,
    )
    return SuiteConfig(
        options,
        reference=args.reference,
        device_name=args.name,
        keep_predictions=args.predictions,
    )


def _evaluate(args: argparse.Namespace, dataset: Dataset, progress: Progress) -> Record:
    """Measure the artifacts, and write the contact sheet if it is requested."""
    from tinyvit.bench.accuracy.suite import evaluate_all

    result = evaluate_all(args.files, dataset, _make_config(args), progress)
    if args.contact_sheet:
        _write_contact_sheet(result, args.contact_sheet)
    return result.record


def _write_contact_sheet(result: SuiteResult, path: Path) -> None:
    """Write the contact sheet of misclassified images, and report that on standard error.

    The sheet shows images that the artifact misclassifies and the reference classifies correctly.
    Without an artifact to compare with the reference, it shows all images that the only evaluated
    artifact misclassifies.
    """
    from tinyvit.bench.accuracy.contact_sheet import write_contact_sheet

    reference_path = result.reference.path if result.reference else None
    compared_evaluations = [
        evaluation for evaluation in result.evaluations if evaluation.path != reference_path
    ]
    evaluation = (compared_evaluations or result.evaluations)[-1]
    reference = result.reference if compared_evaluations else None
    count = write_contact_sheet(evaluation, reference, path)
    if count:
        message = f"{path} shows {format_count(count, 'misclassified image')}"
    elif reference:
        message = (
            "no image that the reference classifies correctly is misclassified, so"
            f" {path} is not written"
        )
    else:
        message = f"no image is misclassified, so {path} is not written"
    print_lines(message, stream=sys.stderr)
