"""The command line of tinyvit-export: its parser, and the conversion to an `ExportConfig`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from tinyvit.checkpoint_paths import CHECKPOINT_SUFFIXES
from tinyvit.cli import make_parser, positive_int
from tinyvit.command_parser import CommandParser
from tinyvit.export.checks.request_checks import check_request
from tinyvit.export.command_line.input_arguments import (
    add_input_arguments,
    add_preprocess_arguments,
)
from tinyvit.export.command_line.int8_arguments import (
    add_int8_arguments,
    check_int8_arguments,
    quantization_from_arguments,
)
from tinyvit.export.command_line.target_arguments import add_target_arguments, read_target_options
from tinyvit.export.config import ExportConfig
from tinyvit.export.targets import get_target, target_names
from tinyvit.export.tracing import DEFAULT_OPSET, IR_VERSIONS
from tinyvit.manifest_parts import Precision
from tinyvit.openmp import add_threads_argument
from tinyvit.outputs import parse_stages
from tinyvit.text.safe_text import quote_argument
from tinyvit.variants import DEFAULT_MODEL, RELEASED_NAMES

_EXAMPLES = """\
  tinyvit-export --model demo --target onnx
  tinyvit-export --checkpoint my_finetune.pth --labels classes.txt --target onnx openvino -o out/
  tinyvit-export --model demo --int8 --calib-data photos/ -o demo_int8.onnx
  tinyvit-export --model tinyvit_5m --output embedding --img-size 320x256"""


def make_export_parser(prog: str = "tinyvit-export") -> CommandParser:
    """Make the parser of tinyvit-export.

    Args:
        prog: Name of the program in messages.

    Returns:
        The parser; `config_from_arguments` converts the arguments that it parses.
    """
    parser = make_parser(
        prog,
        "Export a TinyViT checkpoint to files that run on edge devices.",
        _EXAMPLES,
    )
    parser.suggest_option = _suggest_option
    _add_checkpoint_arguments(parser)
    _add_artifact_arguments(parser)
    add_int8_arguments(parser)
    add_target_arguments(parser)
    parser.add_argument("--overwrite", action="store_true", help="Replace existing files.")
    add_threads_argument(parser)
    parser.add_argument(
        "--processes",
        type=positive_int,
        metavar="N",
        help="Largest number of processes that make files of different targets at the same time"
        " (default: one for each thread, as far as the free memory suffices; one if there is little"
        " to do). While one of them measures latency, the others are paused.",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="Print one JSON object to standard output, and show no progress.",
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="Show the traceback of an error."
    )
    return parser


def config_from_arguments(arguments: argparse.Namespace) -> ExportConfig:
    """Convert parsed arguments to the options of an export.

    Requests that are impossible for a reason that can be found without torch are refused first,
    because the options of a quantization need torch, whose import takes seconds.

    Args:
        arguments: Arguments parsed by the parser of `make_export_parser`.

    Returns:
        The options.

    Raises:
        RequestError: An option was given that needs --int8 or --int8-weights-only, without either
            of them, it contradicts another option, or `check_request` refuses the request.
        MissingDependencyError: A tool of the target is not installed.
    """
    config = _make_float_config(arguments)
    check_int8_arguments(arguments)
    check_request(config, _choose_precision(arguments))
    return replace(config, quantization=quantization_from_arguments(arguments))


def _choose_precision(arguments: argparse.Namespace) -> Precision:
    """Return the precision that is requested; see `ExportConfig.precision`."""
    if arguments.float16:
        return "float16"
    if arguments.int8_weights_only:
        return "int8-weights"
    return "int8" if arguments.int8 else "float32"


def _make_float_config(arguments: argparse.Namespace) -> ExportConfig:
    """Convert all arguments except those of the quantization."""
    return ExportConfig(
        model=arguments.model,
        checkpoint=arguments.checkpoint,
        targets=tuple(arguments.target),
        img_size=arguments.img_size,
        windows=arguments.windows,
        batch=None if arguments.dynamic_batch else arguments.batch,
        preprocess=arguments.preprocess,
        mean=arguments.mean,
        std=arguments.std,
        crop_pct=arguments.crop_pct,
        interpolation=arguments.interpolation,
        labels=arguments.labels,
        output=arguments.output,
        stages=arguments.stages,
        output_path=arguments.output_path,
        opset=arguments.opset,
        overwrite=arguments.overwrite,
        processes=arguments.processes,
        float16=arguments.float16,
        target_options=read_target_options(arguments),
    )


def _suggest_option(word: str) -> str | None:
    """Return the option for a checkpoint that was given without one, or None for other words."""
    quoted = quote_argument(word)
    if word in RELEASED_NAMES:
        return f"--model {quoted}"
    is_checkpoint = Path(word).suffix.lower() in CHECKPOINT_SUFFIXES or Path(word).exists()
    return f"--checkpoint {quoted}" if is_checkpoint else None


def _add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "-m",
        "--model",
        type=str,
        metavar="NAME",
        help=f"Name of a released checkpoint (see --list), or demo (default: {DEFAULT_MODEL}).",
    )
    group.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="Your own checkpoint: a .pth, .pt, .ckpt or .safetensors file of the paper's code, "
        "timm, MMPretrain, Lightning, fastai or your own training loop, or a folder in Hugging "
        "Face's layout; or MobileSAM's file, of which the image encoder is exported.",
    )
    group.add_argument(
        "--list",
        action="store_true",
        help="Print the architectures and the released checkpoints, then exit.",
    )


def _add_artifact_arguments(parser: argparse.ArgumentParser) -> None:
    targets = map(get_target, target_names())
    names = ", ".join(
        f"{target.name} ({', '.join(target.aliases)})" if target.aliases else target.name
        for target in targets
    )
    parser.add_argument(
        "--target",
        "--format",
        nargs="+",
        default=["onnx"],
        metavar="TARGET",
        help="Kinds of file to make: one or more targets, or all for every target whose tools are "
        f"installed (default: onnx). The targets, with aliases in parentheses: {names}.",
    )
    parser.add_argument(
        "-o",
        "--output-path",
        metavar="PATH",
        help="For one target, a file, an existing folder, or a new folder with a slash at its end "
        "(out/). For several targets, a folder, which is created if it does not exist (default: "
        "the current folder).",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="File of class labels: one per line in the order of the network's logits, or with "
        'their indices ("0: cat"), as text, CSV, TSV, JSON or YAML. The first and the last label '
        "are printed (default: the checkpoint's own labels).",
    )
    _add_output_arguments(parser)
    add_input_arguments(parser)
    add_preprocess_arguments(parser)
    _add_format_arguments(parser)


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that determine what the artifact returns."""
    parser.add_argument(
        "--output",
        metavar="KIND",
        help="What the file returns. logits: one number for each class. embedding: one vector for "
        "each image, the input of the classifier, for search and clustering. features: feature "
        "maps, for detection and segmentation (default: logits; embedding for a checkpoint without "
        "a classifier).",
    )
    parser.add_argument(
        "--stages",
        type=parse_stages,
        metavar="N,N",
        help="With --output features, the stages whose feature maps are returned, numbered as in "
        "timm's out_indices: 0, 1, 2 and 3 have 1/4, 1/8, 1/16 and 1/32 of the image's height and "
        "width (default: 0,1,2,3).",
    )


def _add_format_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that determine how the network is stored."""
    parser.add_argument(
        "--float16",
        action="store_true",
        help="Store weights in 16 bits: half the size, and faster on processors that compute in "
        "bfloat16 or float16.",
    )
    opsets = f"{min(IR_VERSIONS)} to {max(IR_VERSIONS)}"
    parser.add_argument(
        "--opset",
        type=int,
        default=DEFAULT_OPSET,
        metavar="N",
        help=f"ONNX opset, {opsets} (default: {DEFAULT_OPSET}).",
    )
