"""The subcommand `train`: train a student from a store, from labels, or from both."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.cli import explain_interrupt, positive_int
from tinyvit.progress import make_progress

if TYPE_CHECKING:
    from tinyvit.distill.training.config import TrainingConfig

HELP = "train from a store, from labels, or from both; a second call resumes the first"
EXAMPLES = """\
  tinyvit-distill train --student tiny_vit_5m_224 --data photos/ --logits store/ -o run/
  tinyvit-distill train --init tinyvit_5m.safetensors --data my-classes/ -o run/
  tinyvit-distill train --init run/best.safetensors --data photos/ --logits store/ \\
      --img-size 384 --preset finetune-384 -o larger/
  tinyvit-distill train --qat --init run/best.safetensors --data photos/ --logits own-store/ \\
      -o int8/
  torchrun --nproc-per-node 8 -m tinyvit.distill.cli train --student tiny_vit_21m_224 \\
      --data photos/ --logits store/ -o run/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options.

    Args:
        parser: The parser of the subcommand.
    """
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="images in class folders, or a folder with train/ and val/; with --logits, class "
        "folders are optional",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the run; the result is DIR/best.safetensors",
    )
    parser.add_argument(
        "--val-data",
        type=Path,
        metavar="DIR",
        help="class folders that decide which epoch is best (default: val/ of --data, or none)",
    )
    parser.add_argument(
        "--logits",
        type=Path,
        metavar="STORE",
        help="store that save-logits made from --data (default: learn from labels alone)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that make augmented views; 0 for none (default: by the number of cores)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace another run in the output folder"
    )
    _add_network_arguments(parser)
    _add_config_arguments(parser)
    _add_qat_arguments(parser)


def _add_network_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network")
    group.add_argument(
        "--student",
        metavar="VARIANT",
        help="variant to train with new weights, such as tiny_vit_5m_224",
    )
    group.add_argument(
        "--init",
        type=Path,
        metavar="CHECKPOINT",
        help="checkpoint to begin from, or the name of a released one; classes that it has keep "
        "their rows of the classifier",
    )
    group.add_argument(
        "--classes",
        choices=("folders", "teacher"),
        default="folders",
        help="classes of the result: those of the class folders, or all of the teacher's "
        "(default: folders, if there are any)",
    )
    group.add_argument(
        "--img-size",
        type=positive_int,
        metavar="PIXELS",
        help="image size (default: that of the checkpoint or variant)",
    )
    group.add_argument(
        "--license",
        metavar="TEXT",
        help="license of the result (default: that of the checkpoint it began from)",
    )


def _add_config_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training settings")
    group.add_argument(
        "--preset",
        metavar="NAME",
        help="scratch-1k, pretrain-22k, finetune-1k, finetune-384, finetune-512, transfer or qat "
        "(default: chosen by --init, --logits and --qat)",
    )
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="take the settings of a run.toml instead of a preset",
    )
    group.add_argument(
        "--epochs", type=positive_int, metavar="N", help="number of epochs (default: the preset's)"
    )
    group.add_argument(
        "--batch",
        type=positive_int,
        metavar="N",
        help="images in a step, over all processes (default: the preset's)",
    )
    group.add_argument(
        "--lr",
        type=float,
        metavar="RATE",
        help="learning rate for 512 images in a step (default: the preset's)",
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change any setting that a run.toml shows, such as label_weight=0.5",
    )


def _add_qat_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("quantization-aware training")
    group.add_argument(
        "--qat",
        nargs="?",
        const="",
        metavar="RECIPE",
        help="train with int8 rounding, by a recipe file or by one calibrated on --data; writes "
        "DIR/recipe.json for tinyvit-export --recipe",
    )
    group.add_argument(
        "--weight-bits",
        type=int,
        choices=(4, 7, 8),
        default=7,
        help="width of the weights of a calibrated recipe (default: 7, which is exact on every "
        "processor)",
    )


def run(args: argparse.Namespace) -> int:
    """Train, or resume.

    Args:
        args: The parsed command line.

    Returns:
        The exit code.
    """
    from tinyvit.distill.training.request import TrainingRequest, train_student

    request = TrainingRequest(
        data=args.data,
        output=args.output,
        config=_make_config(args),
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
    with explain_interrupt(f"run the same command again to resume {args.output}"):
        best = train_student(request, make_progress())
    print(best)
    return 0


def _make_config(args: argparse.Namespace) -> TrainingConfig:
    from tinyvit.distill.training.config import apply_overrides, parse_assignment, read_config
    from tinyvit.distill.training.presets import choose_preset, get_preset
    from tinyvit.errors import RequestError

    if args.config and args.preset:
        raise RequestError("--config and --preset were both given", "give one of them")
    if args.config:
        config = read_config(args.config)
    else:
        default = choose_preset(
            args.init is not None, args.logits is not None, args.qat is not None
        )
        config = get_preset(args.preset or default)
    config = apply_overrides(config, dict(map(parse_assignment, args.set)))
    options = {name: getattr(args, name) for name in ("epochs", "batch", "lr")}
    return replace(config, **{name: value for name, value in options.items() if value is not None})
