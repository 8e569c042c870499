"""The subcommand `convert-logits`: convert a store to the paper's layout, or back."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "convert a store to the layout of the paper's released logits, or back"
EXAMPLES = """\
  tinyvit-distill convert-logits store/ --data photos/ --format tinyvit -o released/
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
        help="a store, or a folder that holds folders logits_top{K}_epoch{E}",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the images, whose paths are the keys of the records",
    )
    parser.add_argument(
        "--format",
        choices=("tinyvit", "store"),
        required=True,
        help="format to write: tinyvit is the layout of the paper's released logits",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="a new folder"
    )


def run(args: argparse.Namespace) -> int:
    """Convert the logits.

    Args:
        args: The parsed command line.

    Returns:
        The exit code.
    """
    from tinyvit.distill.logits.convert import convert_store

    for path in convert_store(args.source, args.data, args.format, args.output):
        print(path)
    return 0
