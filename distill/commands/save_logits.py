"""save-logits: a teacher's answers to every view of every picture, stored once for any student."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tinyvit.cli import explain_interrupt, positive_int

HELP = (
    "store what a teacher says of every view of every picture; stopped and called again, it goes on"
)
EXAMPLES = """\
  tinyvit-distill save-logits --data photos/ --teacher tinyvit_21m.onnx --epochs 30 -o store/
  tinyvit-distill save-logits --data photos/ --teacher timm:resnet50.a1_in1k --teacher teacher.py:mine --epochs 30 --top-k 10 -o store/
  tinyvit-distill save-logits --data photos/ --teacher tinyvit_21m.onnx --epochs 30 -o store/ --ray head:6379"""
_TEACHER = "a checkpoint, an exported file, a released model's name, timm:NAME or FILE.py:FUNCTION; several are averaged"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="pictures, with or without class folders",
    )
    parser.add_argument("--teacher", action="append", required=True, metavar="T", help=_TEACHER)
    parser.add_argument(
        "--epochs",
        type=positive_int,
        required=True,
        metavar="E",
        help="how many views of every picture, at least",
    )
    parser.add_argument(
        "--top-k",
        type=positive_int,
        default=10,
        metavar="K",
        help="probabilities kept of a view; default 10 (the paper: 100 for 22k)",
    )
    parser.add_argument(
        "--img-size",
        type=positive_int,
        metavar="N",
        help="side of the views that the teacher sees; default its own",
    )
    parser.add_argument(
        "--views",
        type=positive_int,
        default=1,
        metavar="V",
        help="of a picture in an epoch; default 1",
    )
    parser.add_argument(
        "--preset", default="finetune-1k", help="whose augmentation to take; default finetune-1k"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change it: scale=[0.3,1.0], mixup=0.8, ...",
    )
    parser.add_argument(
        "--batch",
        type=positive_int,
        default=16,
        help="views that the teacher sees at once; default 16",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another one for other views; default 0"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of a teacher in torch; default auto",
    )
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="shard over a Ray cluster, or over this machine's processors",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="STORE", help="the store's folder"
    )


def run(args: argparse.Namespace) -> int:
    """Make the store; returns the exit code."""
    from tinyvit.distill.logits.save import LogitsRequest, save_logits
    from tinyvit.distill.training.config import apply_overrides, parse_assignment, preset

    changes = {f"augmentation.{name}": value for name, value in map(parse_assignment, args.set)}
    asked = LogitsRequest(
        data=args.data,
        teachers=tuple(args.teacher),
        epochs=args.epochs,
        output=args.output,
        top_k=args.top_k,
        size=args.img_size,
        views=args.views,
        seed=args.seed,
        batch=args.batch,
        augmentation=apply_overrides(preset(args.preset), changes).augmentation,
        precision=args.precision,
        ray=args.ray,
    )
    with explain_interrupt(f"the same command goes on with what {args.output} lacks"):
        store = save_logits(asked, _Meter(args.epochs))
    header = store.header
    size = header.record.itemsize
    total = store.epochs * header.samples * size / 1e6
    print(
        f"{args.output}: {store.epochs} epochs of {header.samples} views, {size} bytes each ({total:.1f} MB)"
    )
    return 0


class _Meter:
    """A line that is written over, once a second."""

    def __init__(self, epochs: int) -> None:
        self._epochs, self._begun, self._last = epochs, time.perf_counter(), 0.0

    def __call__(self, epoch: int, done: int, of: int) -> None:
        now = time.perf_counter() - self._begun
        if done == of or now - self._last >= 1:
            self._last = now
            end = "\n" if done == of else ""
            print(
                f"\repoch {epoch + 1} of {self._epochs}: {done} of {of} views, {now:.0f} s ",
                end=end,
                file=sys.stderr,
                flush=True,
            )
