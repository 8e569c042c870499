"""Declares the options of the subcommand `train`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tinyvit.cli import positive_int
from tinyvit.openmp import add_threads_argument


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
    add_threads_argument(parser)
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
        metavar="PATH",
        help="folder with validation images in class folders, or a .txt file with the path of an "
        "image, a tab and its class in each line; best.safetensors is the network after the epoch "
        "with the best accuracy on them (default: val/ in --data, otherwise the "
        "images of --val-split; without validation images, best.safetensors is the network after "
        "the last epoch)",
    )
    parser.add_argument(
        "--val-split",
        type=float,
        metavar="SHARE",
        help="share of the images of each class, such as 0.2, to hold out for validation if there "
        "are no other validation images; 0 trains on all images (default: 0.2 for the preset "
        "transfer, and 0 for all others)",
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
        "-m",
        "--init",
        "--model",
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
        "--imgsz",
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
    _add_schedule_arguments(group)
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


def _add_schedule_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options about the length of a run, its images, and the weights that it trains."""
    group.add_argument(
        "--epochs",
        type=positive_int,
        metavar="N",
        help="number of epochs; with a larger number, the same command continues a run, also a "
        "finished one (default: the preset's)",
    )
    group.add_argument(
        "--patience",
        type=positive_int,
        metavar="N",
        help="end the run after N epochs without a better accuracy on the validation images "
        "(default: train for all epochs)",
    )
    group.add_argument(
        "--balance",
        action="store_const",
        const=True,
        help="use every class equally often in every epoch, for data in which some classes have "
        "many more images than others",
    )
    group.add_argument(
        "--freeze",
        choices=("none", "backbone"),
        help="weights to leave unchanged: none, or backbone, which trains only the classifier and "
        "takes much less time; a second run with --freeze none and --init best.safetensors of the "
        "first one then trains all weights (default: none)",
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
