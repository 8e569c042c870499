"""train: a student from a store, from labels, or from both."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.cli import explain_interrupt, positive_int

if TYPE_CHECKING:
    from tinyvit.distill.training.config import TrainingConfig

HELP = "train from a store's answers, from labels, or both; stopped and called again, it goes on"
EXAMPLES = """\
  tinyvit-distill train --student tiny_vit_5m_224 --data photos/ --logits store/ -o run/
  tinyvit-distill train --init tinyvit_5m.safetensors --data my-classes/ -o run/
  tinyvit-distill train --init run/best.safetensors --data photos/ --logits store/ --img-size 384 --preset finetune-384 -o larger/
  tinyvit-distill train --qat --init run/best.safetensors --data photos/ --logits its-own-store/ -o int8/
  torchrun --nproc-per-node 8 -m tinyvit.distill.cli train --student tiny_vit_21m_224 --data photos/ --logits store/ -o run/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--student", metavar="V", help="a variant to train from nothing, such as tiny_vit_5m_224"
    )
    parser.add_argument(
        "--init",
        type=Path,
        metavar="FILE",
        help="a checkpoint to begin from, or a released model's name; classes that it knows keep their rows",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="pictures, in class folders unless a store says all; or train/ and val/ of them",
    )
    parser.add_argument(
        "--val-data",
        type=Path,
        metavar="DIR",
        help="class folders to choose the best epoch by; default val/ of --data, or none",
    )
    parser.add_argument(
        "--logits",
        type=Path,
        metavar="STORE",
        help="what save-logits made of --data; without, labels teach alone",
    )
    parser.add_argument(
        "--classes",
        choices=("folders", "teacher"),
        default="folders",
        help="what the model answers with; default folders, where there are",
    )
    parser.add_argument(
        "--img-size",
        type=positive_int,
        metavar="N",
        help="default the variant's or checkpoint's own",
    )
    parser.add_argument(
        "--preset",
        help="scratch-1k, pretrain-22k, finetune-1k, finetune-384, finetune-512, transfer or qat; default by --init, --logits and --qat",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings of a run.toml instead of a preset"
    )
    parser.add_argument("--epochs", type=positive_int, metavar="E", help="instead of the preset's")
    parser.add_argument(
        "--batch", type=positive_int, metavar="B", help="pictures a step, of all processes together"
    )
    parser.add_argument(
        "--lr", type=float, metavar="R", help="learning rate, for 512 pictures a step"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any setting that a run.toml shows, as label_weight=0.5",
    )
    parser.add_argument(
        "--license", help="of the model made; default the checkpoint's that it began from"
    )
    qat = "train with int8 in the graph, by RECIPE or by one calibrated on --data; leaves DIR/recipe.json for tinyvit-export --recipe"
    parser.add_argument("--qat", nargs="?", const="", metavar="RECIPE", help=qat)
    parser.add_argument(
        "--weight-bits",
        type=int,
        choices=(4, 7, 8),
        default=7,
        help="of the weights of --qat; default 7, right on any processor",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that make views; 0 for none; default by processors",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="begin again in a folder that holds another run"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="the run's folder; ends with DIR/best.safetensors",
    )


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit code."""
    from tinyvit.distill.training.request import TrainingRequest, train_student

    asked = TrainingRequest(
        data=args.data,
        output=args.output,
        settings=_settings(args),
        student=args.student,
        init=args.init,
        val_data=args.val_data,
        logits=args.logits,
        img_size=args.img_size,
        classes=args.classes,
        license=args.license,
        workers=args.workers,
        overwrite=args.overwrite,
        qat=args.qat,
        weight_bits=args.weight_bits,
    )
    shown = sys.stderr.isatty()

    def report(line: str) -> None:
        print(f"\r{line}" if shown else line, file=sys.stderr, flush=True)

    def meter(line: str) -> None:
        print(f"\r{line}", end="", file=sys.stderr, flush=True)

    with explain_interrupt(f"the same command goes on from the last state in {args.output}"):
        best = train_student(asked, report, meter if shown else None)
    print(best)
    return 0


def _settings(args: argparse.Namespace) -> TrainingConfig:
    from tinyvit.distill.training.config import (
        apply_overrides,
        parse_assignment,
        preset,
        preset_for,
        read_config,
        with_defaults,
    )
    from tinyvit.errors import RequestError

    if args.config and args.preset:
        raise RequestError("--config and --preset both say what to do", "give one of them")
    name = args.preset or preset_for(
        args.init is not None, args.logits is not None, args.qat is not None
    )
    settings = read_config(args.config) if args.config else preset(name)
    return with_defaults(
        apply_overrides(settings, dict(map(parse_assignment, args.set))),
        args.epochs,
        args.batch,
        args.lr,
    )
