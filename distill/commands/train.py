"""The subcommand `train`: train a TinyViT, which is called the student.

The student learns from a store (a folder of saved teacher predictions), from class labels, or from
both.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.cli import explain_interrupt, positive_int
from tinyvit.progress import make_progress
from tinyvit.safe_text import print_lines

if TYPE_CHECKING:
    from tinyvit.distill.training.config import TrainingConfig

HELP = (
    "train a TinyViT from saved teacher predictions (a store), from class labels, or from both; "
    "after an interruption, the same command continues"
)
EXAMPLES = """\
  tinyvit-distill train --student tiny_vit_5m_224 --data photos/ --logits store/ -o run/
  tinyvit-distill train --init tinyvit_5m.safetensors --data my-classes/ -o run/
  tinyvit-distill train --preset finetune-384 --init run/best.safetensors --data photos/ \\
      -o larger/
  tinyvit-distill train --qat --init run/best.safetensors --data photos/ --logits own-store/ \\
      -o int8/
  torchrun --nproc-per-node 8 -m tinyvit.distill.cli train --student tiny_vit_21m_224 \\
      --data photos/ --logits store/ -o run/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options.

    Args:
        parser: The parser of the subcommand.
    """
    _add_folder_arguments(parser)
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="number of processes that load and augment images; 0 loads them in the training "
        "process (default: one less than the number of cores, but at least 1 and at most 8)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="start from the beginning, and replace any run in the output folder (default: resume "
        "a run with the same options and images, and refuse to replace another)",
    )
    _add_network_arguments(parser)
    _add_config_arguments(parser)
    _add_batch_arguments(parser)
    _add_qat_arguments(parser)


def _add_folder_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with one subfolder of training images per class, or with train/ and val/, "
        "which contain such subfolders; with --logits, class folders are optional",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for everything that the training run writes; the trained model is "
        "DIR/best.safetensors",
    )
    parser.add_argument(
        "--val-data",
        type=Path,
        metavar="DIR",
        help="folder with validation images in class folders; best.safetensors is the network "
        "after the epoch with the best accuracy on them (default: val/ in --data; without "
        "validation images, best.safetensors is the network after the last epoch)",
    )
    parser.add_argument(
        "--logits",
        type=Path,
        metavar="STORE",
        help="store that save-logits wrote for the images of --data (default: train from class "
        "labels only)",
    )


def _add_network_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network")
    group.add_argument(
        "--student",
        metavar="VARIANT",
        help="TinyViT variant to train from random weights, such as tiny_vit_5m_224",
    )
    group.add_argument(
        "--init",
        type=Path,
        metavar="CHECKPOINT",
        help="checkpoint to start from: a file, or the name of a released checkpoint such as "
        "tinyvit_5m; for a class whose label the checkpoint has too, training starts with the "
        "checkpoint's classifier weights",
    )
    group.add_argument(
        "--classes",
        choices=("folders", "teacher"),
        default="folders",
        help="classes of the trained model: those with a class folder, or all classes of the "
        "teacher of the store in --logits (default: folders, or teacher if --data has no class "
        "folders)",
    )
    group.add_argument(
        "--img-size",
        type=positive_int,
        metavar="PIXELS",
        help="image size (default: 384 or 512 for the preset of that name, otherwise that of the "
        "checkpoint or variant); the attention windows of --init are scaled in proportion to it, "
        "and the attention biases are interpolated",
    )
    group.add_argument(
        "--license",
        metavar="TEXT",
        help="license to record in the trained model (default: that of --init)",
    )


def _add_config_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training settings")
    group.add_argument(
        "--preset",
        metavar="NAME",
        help="scratch-1k, pretrain-22k, finetune-1k, finetune-384 or finetune-512 for the runs of "
        "the paper; transfer, finetune-logits or qat for others (default: qat with --qat, "
        "finetune-logits with --init and --logits, transfer with only --init, pretrain-22k with "
        "only --logits, otherwise scratch-1k)",
    )
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="take the settings from this TOML file, such as the run.toml of another run, instead "
        "of from a preset",
    )
    group.add_argument(
        "--epochs", type=positive_int, metavar="N", help="number of epochs (default: the preset's)"
    )
    group.add_argument(
        "--lr",
        type=float,
        metavar="RATE",
        help="peak learning rate for 512 images per step; another --batch scales it in proportion "
        "(default: the preset's)",
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one setting, such as label_weight=0.5; the run.toml that every run writes to "
        "its output folder lists all settings",
    )


def _add_batch_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("batch and memory")
    group.add_argument(
        "--batch",
        type=positive_int,
        metavar="N",
        help="images per step, in all processes together (default: the preset's, which is 4096 "
        "for pretrain-22k, 64 for transfer, 32 for qat, and 1024 for all others; for a small data "
        "set, it is reduced until an epoch has 4 steps)",
    )
    group.add_argument(
        "--accumulation",
        type=positive_int,
        metavar="N",
        help="divide the images of a step into N parts in every process, and add their gradients, "
        "so that only one part must fit into memory (default: as few as fit)",
    )
    group.add_argument(
        "--checkpoint-activations",
        action="store_const",
        const=True,
        help="compute activations again in the backward pass instead of keeping them, which needs "
        "less memory and more time",
    )


def _add_qat_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("quantization-aware training")
    group.add_argument(
        "--qat",
        nargs="?",
        const="",
        metavar="RECIPE",
        help="train with simulated int8 quantization; RECIPE is a file of quantization scales from "
        "tinyvit-export, and without it the scales are calibrated on --data; the run also writes "
        "recipe.json to the output folder, for tinyvit-export --recipe",
    )
    group.add_argument(
        "--weight-bits",
        type=int,
        choices=(4, 7, 8),
        default=7,
        help="bits of each weight if --qat is given without RECIPE (default: 7, because "
        "sums of products with 8-bit weights can saturate on x86 processors without VNNI)",
    )


def run(args: argparse.Namespace) -> int:
    """Train the student, or resume an interrupted run, and print the path of the best checkpoint.

    Args:
        args: The parsed command line.

    Returns:
        The exit code.
    """
    from tinyvit.distill.training.packages import require_training_packages
    from tinyvit.distill.training.request import TrainingRequest
    from tinyvit.distill.training.train import train_student

    require_training_packages()
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
        fits_batch=not _is_batch_given(args),
    )
    with explain_interrupt(lambda: _explain_continuation(args.output, args.overwrite)):
        best_checkpoint = train_student(request, make_progress())
    print_lines(str(best_checkpoint))
    return 0


def _explain_continuation(folder: Path, overwrite: bool) -> str:
    """Return what the same command does after an interruption, as a clause."""
    from tinyvit.distill.training.run_folder import STATE_FILE

    if not (folder / STATE_FILE).is_file():
        return (
            f"no step was saved in {folder} yet, so the same command starts again at step 0 (the "
            "progress is saved after every epoch, and every 10 minutes)"
        )
    # With --overwrite, the repeated command would start from the beginning.
    condition = " without --overwrite" if overwrite else ""
    return f"run the same command again{condition} to resume {folder}"


def _is_batch_given(args: argparse.Namespace) -> bool:
    """Return whether the user chose the number of images per step."""
    is_set = any(assignment.partition("=")[0].strip() == "batch" for assignment in args.set)
    return is_set or args.batch is not None or args.config is not None


def _make_config(args: argparse.Namespace) -> TrainingConfig:
    """Return the settings of --config or a preset, changed by --set, --epochs, --batch, --lr."""
    from tinyvit.distill.training.config import apply_overrides, parse_assignment, read_config
    from tinyvit.distill.training.presets import choose_preset, get_preset
    from tinyvit.errors import RequestError

    if args.config and args.preset:
        raise RequestError("--config and --preset were both given", "give only one of them")
    if args.config:
        config = read_config(args.config)
    else:
        default_preset = choose_preset(
            has_init=args.init is not None,
            has_store=args.logits is not None,
            is_qat=args.qat is not None,
        )
        config = get_preset(args.preset or default_preset)
    config = apply_overrides(config, dict(map(parse_assignment, args.set)))
    options = {
        "epochs": args.epochs,
        "batch": args.batch,
        "accumulation": args.accumulation,
        "checkpoint_activations": args.checkpoint_activations,
        "lr": args.lr,
    }
    given_options = {name: value for name, value in options.items() if value is not None}
    return replace(config, **given_options)
