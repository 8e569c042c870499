"""The subcommand `convert-logits`: convert logits of the TinyViT paper to a store, or vice versa.

A store is a folder of saved teacher predictions, which `save-logits` wrote.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tinyvit.cli import positive_int
from tinyvit.progress import make_progress
from tinyvit.text.safe_text import print_lines

HELP = (
    "convert the logits that the TinyViT paper released to a store, from which train learns, or a "
    "store (from save-logits) to their format"
)
EXAMPLES = """\
  tinyvit-distill convert-logits store/ --data photos/ --format paper -o released/
  tinyvit-distill convert-logits TinyViT-L-22k-logits/ --data imagenet-22k/ --format store \\
      -o store/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options.

    Args:
        parser: The parser of the subcommand.
    """
    parser.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="a store; for --format store, a folder of the paper's released logits, or one that "
        "convert-logits --format paper wrote, including its store.json",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the images that the teacher saw; the paper's format identifies each "
        "prediction by the path of its image",
    )
    parser.add_argument(
        "--format",
        choices=("paper", "store"),
        required=True,
        help="format to write: paper for the format of the paper's released logits, store for "
        "that of save-logits",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder to create"
    )
    group = parser.add_argument_group("released logits, which have no store.json")
    group.add_argument(
        "--num-classes",
        type=positive_int,
        default=21841,
        metavar="N",
        help="number of classes of the teacher (default: 21841, those of ImageNet-22k)",
    )
    group.add_argument(
        "--img-size",
        type=positive_int,
        default=224,
        metavar="PIXELS",
        help="width and height of the images that the teacher saw (default: 224)",
    )


def run(args: argparse.Namespace) -> int:
    """Convert the store, and print the path of each epoch that was written.

    Args:
        args: The parsed command line.

    Returns:
        The exit code.
    """
    from tinyvit.distill.logits.convert import ReleasedLogits, convert_store

    released = ReleasedLogits(args.num_classes, args.img_size)
    paths = convert_store(
        args.source, args.data, args.format, args.output, released, make_progress()
    )
    print_lines(*map(str, paths))
    return 0
