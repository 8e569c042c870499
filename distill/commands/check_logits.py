"""check-logits: is a store whole, and does this machine make the views that it is of?"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "check a store, or the files of the paper's release, record by record"
EXAMPLES = """\
  tinyvit-distill check-logits store/
  tinyvit-distill check-logits store/ --data photos/ --teacher tinyvit_21m.onnx
  tinyvit-distill check-logits TinyViT-L-22k-logits/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "store",
        type=Path,
        metavar="STORE",
        help="what save-logits made, or a folder of logits_top{K}_epoch{E}",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="also: are these its pictures, and are their views the same here?",
    )
    parser.add_argument(
        "--teacher",
        action="append",
        metavar="T",
        help="also: does it answer the same here, for one batch? Needs --data",
    )


def run(args: argparse.Namespace) -> int:
    """Check; returns the exit code."""
    from tinyvit.distill.logits import check
    from tinyvit.errors import RequestError

    if args.teacher and not args.data:
        raise RequestError("--teacher needs the pictures", "give --data too")
    for line in check.check_store(args.store, args.data, tuple(args.teacher or ())):
        print(line)
    return 0
