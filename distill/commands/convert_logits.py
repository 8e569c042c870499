"""convert-logits: between the store and the files of the paper's release."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write a store in the layout of the paper's release, or take one back from there"
EXAMPLES = """\
  tinyvit-distill convert-logits store/ --data photos/ --format tinyvit -o released/
  tinyvit-distill convert-logits released/ --data photos/ --format store -o store/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "source", type=Path, metavar="FROM", help="a store, or a folder of logits_top{K}_epoch{E}"
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="its pictures, whose paths are the keys",
    )
    parser.add_argument(
        "--format", choices=("tinyvit", "store"), required=True, help="tinyvit is the release's"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="where to; a folder that is not there yet",
    )


def run(args: argparse.Namespace) -> int:
    """Convert; returns the exit code."""
    from tinyvit.distill.logits import convert

    for path in convert.convert_store(args.source, args.data, args.format, args.output):
        print(path)
    return 0
