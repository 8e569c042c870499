"""The subcommand `convert-logits`: convert a store to the format of the TinyViT paper, or back.

A store is a folder of saved teacher predictions, which `save-logits` wrote.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tinyvit.safe_text import print_lines

HELP = (
    "convert a store (from save-logits) to the format of the logits that the TinyViT paper "
    "released, or convert such a conversion back to a store"
)
EXAMPLES = """\
  tinyvit-distill convert-logits store/ --data photos/ --format paper -o released/
  tinyvit-distill convert-logits released/ --data photos/ --format store -o store/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options.

    Args:
        parser: The parser of the subcommand.
    """
    parser.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="a store; for --format store, a folder that convert-logits --format paper wrote, "
        "including its store.json",
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


def run(args: argparse.Namespace) -> int:
    """Convert the store, and print the path of each epoch that was written.

    Args:
        args: The parsed command line.

    Returns:
        The exit code.
    """
    from tinyvit.distill.logits.convert import convert_store

    for path in convert_store(args.source, args.data, args.format, args.output):
        print_lines(str(path))
    return 0
