"""The subcommand `convert-logits`: convert a store to the paper's format, or back.

A store is a folder of saved teacher predictions, written by `save-logits`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "convert a store (from save-logits) to the format of the paper's released logits, or back"
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
        help="a store; or, for --format store, a folder that an earlier conversion to the "
        "paper's format wrote, with its store.json",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the images that the logits were computed from; the paper's format "
        "identifies each record by the path of its image",
    )
    parser.add_argument(
        "--format",
        choices=("paper", "store"),
        required=True,
        help="format to write: paper is that of the paper's released logits, store is that of "
        "save-logits",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder to create"
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
