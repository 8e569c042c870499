"""The subcommand `check-logits`: check that saved teacher predictions are undamaged.

The predictions are in a store (a folder that `save-logits` wrote), or in the format of the logits
that the TinyViT paper released.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tinyvit.progress import make_progress
from tinyvit.text.safe_text import print_lines

HELP = (
    "check every saved prediction in a store (from save-logits), or in the logits that the TinyViT "
    "paper released"
)
EXAMPLES = """\
  tinyvit-distill check-logits store/
  tinyvit-distill check-logits store/ --data photos/ --teacher tinyvit_21m.onnx
  tinyvit-distill check-logits TinyViT-L-22k-logits/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options.

    Args:
        parser: The parser of the subcommand.
    """
    parser.add_argument(
        "store",
        type=Path,
        metavar="STORE",
        help="folder that save-logits wrote, or a folder of the paper's released logits, which "
        "contains folders named logits_top{K}_epoch{E}",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="also check that the store was made from the images in this folder, and that "
        "augmenting them on this machine gives the same pixels as when the store was made; only "
        "for a folder that save-logits wrote",
    )
    parser.add_argument(
        "--teacher",
        action="append",
        metavar="TEACHER",
        help="also check, on one batch, that this teacher predicts the stored probabilities; "
        "TEACHER has the same forms as for save-logits; repeat the option for several teachers; "
        "needs --data",
    )


def run(args: argparse.Namespace) -> int:
    """Check the store.

    Args:
        args: The parsed command line.

    Returns:
        The exit code.
    """
    from tinyvit.distill.logits.check import check_store
    from tinyvit.errors import RequestError

    if args.teacher and not args.data:
        raise RequestError(
            "--teacher was given without --data",
            "add --data with the folder of images that the store was made from",
        )
    teachers = tuple(args.teacher or ())
    for sentence in check_store(args.store, args.data, teachers, make_progress()):
        print_lines(sentence)
    return 0
