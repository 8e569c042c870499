"""The subcommand `train`: train a TinyViT (the student).

It learns from a store (a folder of saved teacher predictions), from class labels, or from both.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.cli import explain_interrupt, positive_int
from tinyvit.progress import make_progress

if TYPE_CHECKING:
    from tinyvit.distill.training.config import TrainingConfig

HELP = (
    "train a TinyViT from saved teacher predictions (a store), from class labels, or from both; "
    "the same command resumes an interrupted run"
)
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
        help="training images in one folder per class, or a folder that contains train/ and val/; "
        "with --logits, class folders are optional",
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
        help="validation images in class folders; the epoch with the best accuracy becomes "
        "best.safetensors (default: val/ of --data; without it, the last epoch)",
    )
    parser.add_argument(
        "--logits",
        type=Path,
        metavar="STORE",
        help="store that save-logits wrote for the images of --data (default: train from class "
        "labels only)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="number of processes that load and augment images; 0 uses the training process "
        "(default: the number of cores less one, 1 to 8)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a different run in the output folder"
    )
    _add_network_arguments(parser)
    _add_config_arguments(parser)
    _add_qat_arguments(parser)


def _add_network_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network")
    group.add_argument(
        "--student",
        metavar="VARIANT",
        help="variant to train from random weights, such as tiny_vit_5m_224",
    )
    group.add_argument(
        "--init",
        type=Path,
        metavar="CHECKPOINT",
        help="checkpoint file, or name of a released checkpoint, whose weights are the initial "
        "ones; its classifier rows are kept for classes with the same label",
    )
    group.add_argument(
        "--classes",
        choices=("folders", "teacher"),
        default="folders",
        help="classes of the trained model: those of the class folders, or all classes of the "
        "teacher (default: folders; without class folders, teacher)",
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
        help="license of the trained model (default: that of --init)",
    )


def _add_config_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training settings")
    group.add_argument(
        "--preset",
        metavar="NAME",
        help="scratch-1k, pretrain-22k, finetune-1k, finetune-384, finetune-512, transfer or qat "
        "(default: depends on --init, --logits and --qat)",
    )
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML file with settings, such as the run.toml of another run, instead of a preset",
    )
    group.add_argument(
        "--epochs", type=positive_int, metavar="N", help="number of epochs (default: the preset's)"
    )
    group.add_argument(
        "--batch",
        type=positive_int,
        metavar="N",
        help="images per step, in all processes together (default: the preset's)",
    )
    group.add_argument(
        "--lr",
        type=float,
        metavar="RATE",
        help="peak learning rate for 512 images per step; it is scaled in proportion to --batch "
        "(default: the preset's)",
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one setting, such as label_weight=0.5; run.toml in the output folder lists "
        "all settings",
    )


def _add_qat_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("quantization-aware training")
    group.add_argument(
        "--qat",
        nargs="?",
        const="",
        metavar="RECIPE",
        help="train with simulated int8 quantization. RECIPE is a file of quantization scales from "
        "tinyvit-export; without it, the scales are calibrated on --data. Writes recipe.json to "
        "the output folder, for tinyvit-export --recipe",
    )
    group.add_argument(
        "--weight-bits",
        type=int,
        choices=(4, 7, 8),
        default=7,
        help="bits of each weight if --qat calibrates the recipe (default: 7, which is exact on "
        "every processor)",
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
        raise RequestError("--config and --preset were both given", "give only one of them")
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
