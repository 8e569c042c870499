"""The subcommand `evaluate`: measure the accuracy of a TinyViT checkpoint in PyTorch."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from tinyvit.cli import positive_int
from tinyvit.image_sizes import Windows
from tinyvit.progress import make_progress
from tinyvit.safe_text import print_lines

if TYPE_CHECKING:
    from tinyvit.distill.training.evaluate import AccuracyScores
    from tinyvit.nn.checkpoint import Checkpoint

HELP = "measure the top-1 and top-5 accuracy of a checkpoint in PyTorch, in float32"
EXAMPLES = """\
  tinyvit-distill evaluate run/best.safetensors --data photos/val
  tinyvit-distill evaluate tinyvit_21m.safetensors --data imagenet/val --img-size 384 --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options.

    Args:
        parser: The parser of the subcommand.
    """
    parser.add_argument("checkpoint", type=Path, metavar="FILE", help="a TinyViT checkpoint")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with one subfolder per class; if it contains train/ and val/ (or valid/ or "
        "validation/), val/ is used",
    )
    parser.add_argument(
        "--img-size",
        type=positive_int,
        metavar="PIXELS",
        help="image size (default: that of the checkpoint)",
    )
    parser.add_argument(
        "--windows",
        choices=get_args(Windows),
        help="attention windows at another image size; checkpoint: they keep their sizes, and "
        "feature maps are padded; scaled: they are scaled in proportion to the image size "
        "(default: what tinyvit-export uses by default)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as a JSON object")


def run(args: argparse.Namespace) -> int:
    """Measure the accuracy, and print it as a line of text or as JSON.

    Args:
        args: The parsed command line.

    Returns:
        The exit code.
    """
    from tinyvit.data.splits import find_split_folder
    from tinyvit.distill.training.device import select_device
    from tinyvit.distill.training.evaluate import evaluate_model
    from tinyvit.labels import numbered_labels
    from tinyvit.nn.checkpoint import load_checkpoint
    from tinyvit.quant.validation_data import read_validation_set

    file_checkpoint = load_checkpoint(args.checkpoint)
    img_size = args.img_size or file_checkpoint.img_size
    checkpoint = file_checkpoint.at_size(img_size, args.windows)
    labels = checkpoint.labels or numbered_labels(checkpoint.num_classes)
    folder = find_split_folder(args.data, "val")
    validation = read_validation_set(folder, checkpoint.preprocess, labels)
    make_progress(json_output=args.json).message(f"{folder}: {validation.describe()}")
    device = select_device("float32")
    scores = evaluate_model(device.move_module(checkpoint.build()), validation, device)
    if args.json:
        print_lines(json.dumps(_make_record(checkpoint, scores)))
    else:
        windows = checkpoint.describe_windows()
        if windows is not None:
            print_lines(f"attention windows: {windows}")
        print_lines(
            f"{args.checkpoint.name}: {scores}",
            f"preprocessing: from {checkpoint.preprocess_source}",
            f"labels: from {checkpoint.labels_source}",
            *(f"note: {note}" for note in checkpoint.notes),
        )
    return 0


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
