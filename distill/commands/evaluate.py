"""The subcommand `evaluate`: measure the accuracy of a TinyViT checkpoint in PyTorch."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from tinyvit.image_sizes import Windows, parse_size
from tinyvit.openmp import add_threads_argument, set_thread_count
from tinyvit.progress import make_progress
from tinyvit.text.safe_text import print_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyvit.distill.training.validation.evaluate import AccuracyScores, ImagePredictions
    from tinyvit.labels import Label
    from tinyvit.nn.checkpoints.checkpoint import Checkpoint
    from tinyvit.progress import Progress

HELP = "measure the top-1 and top-5 accuracy of a checkpoint in PyTorch, in float32"
EXAMPLES = """\
  tinyvit-distill evaluate run/best.safetensors --data photos/val
  tinyvit-distill evaluate tinyvit_21m.safetensors --data imagenet/val --img-size 384 --json
  tinyvit-distill evaluate run/best.safetensors --data photos/val -o evaluation/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options.

    Args:
        parser: The parser of the subcommand.
    """
    parser.add_argument(
        "checkpoint", type=Path, metavar="FILE", help="a TinyViT checkpoint, or demo"
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="PATH",
        help="folder with one subfolder per class; if it contains train/ and val/ (or valid/ or "
        "validation/), val/ is used; or a .txt file with the path of an image, a tab and its class "
        "in each line",
    )
    parser.add_argument(
        "--img-size",
        "--imgsz",
        type=parse_size,
        metavar="SIZE",
        help="image size in pixels: the side of a square (224), or height x width (320x256) "
        "(default: that of the checkpoint)",
    )
    parser.add_argument(
        "--windows",
        choices=get_args(Windows),
        help="attention windows at another image size; checkpoint: they keep their sizes, and "
        "feature maps are padded; scaled: they are scaled in proportion to the image size "
        "(default: what tinyvit-export uses by default)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for the accuracy of each class, the confusion matrix, and an image of the "
        "most confident mistakes (default: these files are not written)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace such files in the folder of -o"
    )
    add_threads_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the result as a JSON object")


def run(args: argparse.Namespace) -> int:
    """Measure the accuracy, and print it as a line of text or as JSON.

    Args:
        args: The parsed command line.

    Returns:
        The exit code.
    """
    from tinyvit.distill.packages import require_packages

    set_thread_count(args.threads)
    # Before the imports, because that of torch takes seconds.
    require_packages("torch", *(["matplotlib"] if args.output is not None else []))
    from tinyvit.data.splits import find_split_folder
    from tinyvit.distill.training.device import select_device
    from tinyvit.distill.training.validation.evaluate import predict_images
    from tinyvit.labels import numbered_labels
    from tinyvit.nn.checkpoints.hub import load_file_or_released
    from tinyvit.quant.images.validation_data import read_validation_set

    if args.output is not None:
        _check_output(args.output, args.overwrite)
    file_checkpoint = load_file_or_released(args.checkpoint)
    img_size = args.img_size or file_checkpoint.img_size
    checkpoint = file_checkpoint.at_size(img_size, args.windows)
    labels = checkpoint.labels or numbered_labels(checkpoint.num_classes)
    folder = find_split_folder(args.data, "val")
    validation = read_validation_set(folder, checkpoint.preprocess, labels)
    progress = make_progress(json_output=args.json)
    progress.message(f"{folder}: {validation.describe()}")
    device = select_device("float32")
    model = device.move_module(checkpoint.build())
    predictions = predict_images(model, validation, device, progress=progress)
    scores = predictions.measure_accuracy()
    report = _write_report(predictions, labels, args.output, progress)
    if args.json:
        print_lines(json.dumps({**_make_record(checkpoint, scores), "files": report.file_names}))
    else:
        windows = checkpoint.describe_windows()
        if windows is not None:
            print_lines(f"attention windows: {windows}")
        print_lines(
            f"{args.checkpoint.name}: {scores}",
            f"preprocessing: from {checkpoint.preprocess_source}",
            f"labels: from {checkpoint.labels_source}",
            *(f"note: {note}" for note in checkpoint.notes),
            *report.messages,
        )
    return 0


@dataclass(frozen=True)
class _Report:
    """The report about the predictions; it is empty without -o.

    Attributes:
        messages: Messages, each on one line.
        file_names: Paths of the files.
    """

    messages: tuple[str, ...] = ()
    file_names: tuple[str, ...] = ()


def _check_output(folder: Path, overwrite: bool) -> None:
    """Check that matplotlib is installed, and that no file of another evaluation is replaced."""
    from tinyvit.distill.training.reports.class_names import find_font
    from tinyvit.distill.training.reports.evaluation_files import EVALUATION_FILES
    from tinyvit.files.file_io import refuse_existing

    find_font()
    for name in EVALUATION_FILES:
        refuse_existing(folder / name, overwrite)


def _write_report(
    predictions: ImagePredictions,
    labels: Sequence[Label],
    folder: Path | None,
    progress: Progress,
) -> _Report:
    """Write the files about the predictions, if there is a folder for them."""
    from tinyvit.distill.training.reports.class_accuracy import describe_worst_classes
    from tinyvit.distill.training.reports.evaluation_files import write_evaluation

    if folder is None:
        return _Report()
    written = write_evaluation(predictions, labels, folder, progress)
    messages = (describe_worst_classes(predictions, labels), written.describe())
    return _Report(messages, tuple(map(str, written.paths)))


def _make_record(checkpoint: Checkpoint, scores: AccuracyScores) -> dict[str, Any]:
    """Make the JSON object for a checkpoint and its accuracy."""
    return {
        "checkpoint": checkpoint.sha256,
        "img_size": checkpoint.img_size,
        "windows": checkpoint.windows,
        "top1": scores.top1,
        "top5": scores.top5,
        "images": scores.image_count,
        "preprocess_source": checkpoint.preprocess_source,
        "labels_source": checkpoint.labels_source,
        "notes": list(checkpoint.notes),
    }
