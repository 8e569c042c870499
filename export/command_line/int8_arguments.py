"""The options of tinyvit-export that belong to --int8 and --int8-weights-only."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyvit.errors import RequestError

if TYPE_CHECKING:
    from tinyvit.quant.quantizer import QuantizationConfig

_INT8_OPTIONS = (
    "calib_data",
    "calib_count",
    "calib_seed",
    "recipe",
    "val_data",
    "max_drop",
    "min_agreement",
    "min_cosine",
    "min_speedup",
    "cpu",
    "force",
    "sensitivity",
)
"""Options that are refused unless --int8 or --int8-weights-only is given.

The default of each option is None, which means that the option was not given.
"""


def add_int8_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the group of options that request and control quantization.

    Args:
        parser: The parser of tinyvit-export.
    """
    group = parser.add_argument_group(
        "int8", "The other options of this group need --int8 or --int8-weights-only."
    )
    precision = group.add_mutually_exclusive_group()
    precision.add_argument(
        "--int8",
        action="store_true",
        help="Quantize weights and activations to 8-bit integers, and compare accuracy and speed "
        "with float32.",
    )
    precision.add_argument(
        "--int8-weights-only",
        action="store_true",
        help="Quantize only the weights: a quarter of the size of float32, and 0 to 30%% slower.",
    )
    _add_calibration_arguments(group)
    _add_budget_arguments(group)
    _add_sensitivity_argument(group)


def _add_sensitivity_argument(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--sensitivity",
        nargs="?",
        const=True,
        metavar="FILE",
        help="Print which layers lose most in int8: for each layer, its share of the error of the "
        "logits and the signal-to-noise ratio of its output, simulated in PyTorch on 16 images. "
        "Takes a minute or more for each target. With FILE, also write a record for tinyvit-bench "
        "report.",
    )


def _add_calibration_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--calib-data",
        "--data",
        metavar="DATA",
        help="Images to calibrate with: a folder of images or of class folders, a text file that "
        "lists images, an .npz file, or synthetic for images generated from the network itself "
        "(default: synthetic; with --int8-weights-only or an existing --recipe, no images are made "
        "and nothing is measured).",
    )
    group.add_argument(
        "--calib-count",
        type=int,
        metavar="N",
        help="Number of calibration images, 32 to 1000000 (default: 256), or of synthetic images, "
        "32 to 10000 (default: 32, or 64 if a target quantizes every tensor).",
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
        help="File of quantization scales. If the file exists, its scales are used and nothing is "
        "calibrated; otherwise the calibrated scales are written to it.",
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
        metavar="PATH",
        help="Validation images to measure top-1 accuracy: a folder with one subfolder per class, "
        "or a .txt file with the path of an image, a tab and its class in each line. For "
        "embeddings and feature maps, any folder or list of images. Without it, outputs are "
        "compared with those of float32 on images not used for calibration.",
    )
    group.add_argument(
        "--max-drop",
        type=float,
        metavar="POINTS",
        help="Largest allowed loss of top-1 accuracy on --val-data, in percentage points "
        "(default: 0.5).",
    )
    group.add_argument(
        "--min-agreement",
        type=float,
        metavar="PERCENT",
        help="Without --val-data: percent of images whose top-1 class must be the same as in "
        "float32 (default: 98.5).",
    )
    group.add_argument(
        "--min-cosine",
        type=float,
        metavar="COSINE",
        help="For embeddings and feature maps: smallest mean cosine similarity to float32, 0 to 1 "
        "(default: 0.99). For embeddings, the percent of images with the same nearest neighbor is "
        "reported too.",
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
        help="Write the file even if it misses its accuracy budget; its manifest records this.",
    )


def check_int8_arguments(arguments: argparse.Namespace) -> None:
    """Check the options of a quantization, without torch.

    Args:
        arguments: Parsed arguments, with those of `add_int8_arguments`.

    Raises:
        RequestError: An option was given without --int8 or --int8-weights-only, or contradicts
            another one.
    """
    values = _list_given_options(arguments)
    if values and not arguments.int8 and not arguments.int8_weights_only:
        option = f"--{next(iter(values)).replace('_', '-')}"
        raise RequestError(f"{option} is an option of --int8", f"add --int8, or leave out {option}")
    _check_budget_options(arguments)


def _list_given_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return name -> value of the options of a quantization that were given."""
    values = {name: getattr(arguments, name) for name in _INT8_OPTIONS}
    return {name: value for name, value in values.items() if value is not None}


def quantization_from_arguments(arguments: argparse.Namespace) -> QuantizationConfig | None:
    """Convert parsed arguments to the options of a quantization. This imports torch.

    Args:
        arguments: Parsed arguments, which `check_int8_arguments` has checked.

    Returns:
        The options; None if neither --int8 nor --int8-weights-only was given.
    """
    if not arguments.int8 and not arguments.int8_weights_only:
        return None
    values = _list_given_options(arguments)
    from tinyvit.quant.accuracy_budget import AccuracyBudget
    from tinyvit.quant.config import SYNTHETIC
    from tinyvit.quant.quantizer import QuantizationConfig

    budget_names = ("max_drop", "min_agreement", "min_cosine")
    budget = AccuracyBudget(**{name: values.pop(name) for name in budget_names if name in values})
    if arguments.min_agreement is not None or arguments.min_cosine is not None:
        # These options ask for a measurement, which needs images.
        values.setdefault("calib_data", SYNTHETIC)
    for name in ("recipe", "val_data"):
        if name in values:
            values[name] = Path(values[name])
    # The value can also be the path of a record, which the command writes.
    values["sensitivity"] = arguments.sensitivity is not None
    return QuantizationConfig(**values, budget=budget, weights_only=arguments.int8_weights_only)


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
