"""The command line of tinyvit-export, and the options that it stands for."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tinyvit.cli import make_parser
from tinyvit.errors import RequestError
from tinyvit.export.config import MAX_BATCH, ExportConfig
from tinyvit.export.targets import TargetOption, get_target, target_names
from tinyvit.export.tracing import DEFAULT_OPSET, IR_VERSIONS
from tinyvit.variants import DEFAULT_MODEL

if TYPE_CHECKING:
    from tinyvit.quant.quantizer import QuantizationConfig

_EXAMPLES = """\
  tinyvit-export --model demo --target onnx
  tinyvit-export --checkpoint my_finetune.pth --labels classes.txt --target onnx openvino -o out/
  tinyvit-export --model demo --int8 --calib-data photos/ -o demo_int8.onnx"""

_INT8_OPTIONS = (
    "calib_data",
    "calib_count",
    "calib_seed",
    "recipe",
    "val_data",
    "max_drop",
    "min_agreement",
    "min_speedup",
    "cpu",
    "force",
)
"""Options that are refused without --int8 and --int8-weights-only. All of them default to None, so
that it shows whether they were given."""


def make_export_parser() -> argparse.ArgumentParser:
    """Make the parser of tinyvit-export.

    Returns:
        A parser whose result `config_from_arguments` takes.
    """
    parser = make_parser(
        "tinyvit-export",
        "Export a TinyViT checkpoint to files that run on edge devices.",
        _EXAMPLES,
    )
    _add_checkpoint_arguments(parser)
    _add_artifact_arguments(parser)
    _add_int8_arguments(parser)
    _add_target_arguments(parser)
    parser.add_argument("--overwrite", action="store_true", help="Replace existing files.")
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

    Args:
        arguments: What the parser of `make_export_parser` returned.

    Returns:
        The options.

    Raises:
        RequestError: An option of --int8 was given without it, or contradicts another option.
    """
    return ExportConfig(
        model=arguments.model,
        checkpoint=arguments.checkpoint,
        targets=tuple(arguments.target),
        img_size=arguments.img_size,
        batch=None if arguments.dynamic_batch else arguments.batch,
        preprocess=arguments.preprocess,
        labels=arguments.labels,
        output=arguments.output,
        opset=arguments.opset,
        overwrite=arguments.overwrite,
        float16=arguments.float16,
        quantization=_quantization_config(arguments),
        target_options={
            option.name: getattr(arguments, option.name)
            for option in _target_options()
            if getattr(arguments, option.name) is not None
        },
    )


def _add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("checkpoint").add_mutually_exclusive_group()
    group.add_argument(
        "--model",
        metavar="NAME",
        help=f"Name of a released checkpoint (see --list), or demo (default: {DEFAULT_MODEL}).",
    )
    group.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="A .safetensors or .pth file with the parameter names of the paper's code or of timm.",
    )
    group.add_argument(
        "--list", action="store_true", help="Print the released checkpoints and exit."
    )


def _add_artifact_arguments(parser: argparse.ArgumentParser) -> None:
    targets = map(get_target, target_names())
    names = ", ".join(
        f"{target.name} ({', '.join(target.aliases)})" if target.aliases else target.name
        for target in targets
    )
    parser.add_argument(
        "--target",
        nargs="+",
        default=["onnx"],
        metavar="TARGET",
        help="Engines to make files for: one or several names, or all for every target whose "
        f"tools are installed (default: onnx). The targets, with their aliases: {names}.",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        help="For one target, a file or an existing folder; for several targets, a folder, which "
        "is made if it does not exist (default: the current folder).",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="File of class labels, one on each line in the order of the classifier's rows, or a "
        "CSV, TSV or JSON file (default: the checkpoint's own labels).",
    )
    _add_input_arguments(parser)
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


def _add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide what the artifact takes as input."""
    parser.add_argument(
        "--img-size",
        type=int,
        metavar="PIXELS",
        help="Height and width of the network's input, a multiple of 32; attention biases are "
        "interpolated to it (default: the checkpoint's own).",
    )
    batch = parser.add_mutually_exclusive_group()
    batch.add_argument(
        "--batch",
        type=int,
        default=1,
        metavar="N",
        help=f"Number of images in one call, 1 to {MAX_BATCH} (default: 1).",
    )
    batch.add_argument(
        "--dynamic-batch",
        action="store_true",
        help="Leave the number of images in one call open.",
    )
    parser.add_argument(
        "--preprocess",
        choices=("host", "normalize", "full"),
        default="host",
        help="Preprocessing that becomes part of the file. host: none, the caller resizes, crops "
        "and normalizes (default). normalize: subtracting the mean and dividing by the standard "
        "deviation. full: resizing and cropping too.",
    )


def _add_int8_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "int8", "All other options of this group need --int8 or --int8-weights-only."
    )
    precision = group.add_mutually_exclusive_group()
    precision.add_argument(
        "--int8",
        action="store_true",
        help="Quantize weights and activations to 8-bit integers, and measure the accuracy and "
        "the speed beside float32.",
    )
    precision.add_argument(
        "--int8-weights-only",
        action="store_true",
        help="Quantize the weights alone: a quarter of the size, and 0 to 30%% slower than "
        "float32.",
    )
    _add_calibration_arguments(group)
    _add_budget_arguments(group)


def _add_calibration_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--calib-data",
        metavar="DATA",
        help="Images to calibrate with: a folder of images or of class folders, a text file that "
        "lists images, an .npz file, or synthetic for images that are made from the network itself "
        "(default: synthetic).",
    )
    group.add_argument(
        "--calib-count",
        type=int,
        metavar="N",
        help="Number of calibration images (default: 256; 32 for synthetic images).",
    )
    group.add_argument(
        "--calib-seed",
        type=int,
        metavar="N",
        help="Seed that selects the calibration images from --calib-data (default: 0).",
    )
    group.add_argument(
        "--recipe",
        metavar="FILE",
        help="File of quantization scales. If it exists, its scales are used and nothing is "
        "calibrated; if not, the scales are written there.",
    )
    group.add_argument(
        "--cpu",
        choices=("any", "vnni"),
        help="Processors that the file is for. any: 7-bit weights, correct on every processor "
        "(default). vnni: 8-bit weights, correct only on processors with VNNI instructions.",
    )


def _add_budget_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--val-data",
        metavar="DIR",
        help="Folder of class folders to measure top-1 accuracy on. Without it, the predictions "
        "are compared with those of float32 on images that were not used to calibrate.",
    )
    group.add_argument(
        "--max-drop",
        type=float,
        metavar="POINTS",
        help="Percentage points of top-1 accuracy on --val-data that may be lost (default: 0.5).",
    )
    group.add_argument(
        "--min-agreement",
        type=float,
        metavar="PERCENT",
        help="Without --val-data: percent of images that must get the same top-1 class as in "
        "float32 (default: 98.5).",
    )
    group.add_argument(
        "--min-speedup",
        type=float,
        metavar="FACTOR",
        help="Fail if int8 is not at least this many times as fast as float32 on this machine.",
    )
    group.add_argument(
        "--force",
        action="store_true",
        default=None,
        help="Write the file even if it misses --max-drop or --min-agreement; its manifest says "
        "so.",
    )


def _add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a group for each target that has options of its own."""
    for target in map(get_target, target_names()):
        if target.options:
            group = parser.add_argument_group(f"options of --target {target.name}")
            for option in target.options:
                group.add_argument(
                    option.flag,
                    choices=option.choices,
                    metavar=None if option.choices else "VALUE",
                    help=option.help,
                )


def _target_options() -> Iterator[TargetOption]:
    for target in map(get_target, target_names()):
        yield from target.options


def _quantization_config(arguments: argparse.Namespace) -> QuantizationConfig | None:
    """Convert the options of int8; None if neither --int8 nor --int8-weights-only was given."""
    given = {
        name: getattr(arguments, name)
        for name in _INT8_OPTIONS
        if getattr(arguments, name) is not None
    }
    if not arguments.int8 and not arguments.int8_weights_only:
        if given:
            raise RequestError(
                f"--{next(iter(given)).replace('_', '-')} is an option of --int8",
                "add --int8, or leave it out",
            )
        return None
    _check_budget_options(arguments)
    from tinyvit.quant.accuracy_budget import AccuracyBudget
    from tinyvit.quant.quantizer import QuantizationConfig

    budget_names = ("max_drop", "min_agreement")
    budget = AccuracyBudget(**{name: given.pop(name) for name in budget_names if name in given})
    for name in ("recipe", "val_data"):
        if name in given:
            given[name] = Path(given[name])
    return QuantizationConfig(**given, budget=budget, weights_only=arguments.int8_weights_only)


def _check_budget_options(arguments: argparse.Namespace) -> None:
    """Check that the accuracy budget fits the images that accuracy is measured on."""
    if arguments.max_drop is not None and arguments.val_data is None:
        raise RequestError(
            "--max-drop needs images whose classes are known",
            "give --val-data, or --min-agreement instead of --max-drop",
        )
    if arguments.min_agreement is not None and arguments.val_data is not None:
        raise RequestError(
            "--min-agreement is for images whose classes are unknown, and --val-data was given",
            "give --max-drop instead, or leave out --val-data",
        )
