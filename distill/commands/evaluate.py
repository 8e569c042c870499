"""evaluate: how right a checkpoint is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tinyvit.cli import positive_int

HELP = "top-1 and top-5 of a checkpoint, in torch, in float32"
EXAMPLES = """\
  tinyvit-distill evaluate run/best.safetensors --data photos/val
  tinyvit-distill evaluate tinyvit_21m.safetensors --data imagenet/val --img-size 384 --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("checkpoint", type=Path, metavar="FILE", help="a checkpoint of TinyViT")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="class folders, or train/ and val/ of them: then val/ counts",
    )
    parser.add_argument(
        "--img-size", type=positive_int, metavar="N", help="default the checkpoint's own"
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def run(args: argparse.Namespace) -> int:
    """Evaluate; returns the exit code."""
    from tinyvit.distill.augmentation.pictures import split_of
    from tinyvit.distill.training.device import select_device
    from tinyvit.distill.training.evaluate import evaluate_model
    from tinyvit.labels import numbered_labels
    from tinyvit.nn.checkpoint import load_checkpoint
    from tinyvit.quant.validation_data import read_validation_set

    source = load_checkpoint(args.checkpoint)
    source = source.at_size(args.img_size or source.img_size)
    validation = read_validation_set(
        split_of(args.data, "val"),
        source.preprocess,
        source.labels or numbered_labels(source.num_classes),
    )
    here = select_device("float32")
    found = evaluate_model(here.place(source.build()), validation, here)
    facts = {
        "checkpoint": source.sha256,
        "img_size": source.img_size,
        "top1": found.top1,
        "top5": found.top5,
        "images": found.images,
    }
    print(json.dumps(facts) if args.json else f"{args.checkpoint.name}: {found}")
    return 0
