"""The options of tinyvit-export that determine the input of an artifact and its preprocessing."""

from __future__ import annotations

import argparse
from typing import get_args

from tinyvit.export.config import MAX_BATCH
from tinyvit.image_sizes import Windows, parse_size
from tinyvit.preprocess import FILTER_NAMES


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that determine the input of the artifact.

    Args:
        parser: The parser of tinyvit-export.
    """
    parser.add_argument(
        "--img-size",
        "--imgsz",
        type=parse_size,
        metavar="SIZE",
        help="Size of the network's input in pixels, 32 to 1024: the side of a square (224), or "
        "height x width, in this order as in timm and PyTorch (320x256) (default: the checkpoint's "
        "own size).",
    )
    parser.add_argument(
        "--windows",
        choices=get_args(Windows),
        help="What happens to the attention windows at another image size. checkpoint: they keep "
        "their sizes, and feature maps are padded, as in timm. scaled: attention biases are "
        "interpolated to windows in proportion to the image size, as in the paper; the image must "
        "be a square with a side that is a multiple of 32 (default: what the checkpoint's training "
        "used if that is known and possible, else checkpoint).",
    )
    batch = parser.add_mutually_exclusive_group()
    batch.add_argument(
        "--batch",
        type=int,
        default=1,
        metavar="N",
        help=f"Number of images per call, 1 to {MAX_BATCH} (default: 1).",
    )
    batch.add_argument(
        "--dynamic-batch",
        action="store_true",
        help="Allow any number of images per call.",
    )
    parser.add_argument(
        "--preprocess",
        choices=("host", "normalize", "full"),
        default="host",
        help="Preprocessing that becomes part of the file. host: none; the caller resizes, crops "
        "and normalizes (default). normalize: subtracting the mean and dividing by the standard "
        "deviation. full: resizing and cropping too.",
    )


def add_preprocess_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that replace the preprocessing of the training.

    Args:
        parser: The parser of tinyvit-export.
    """
    group = parser.add_argument_group(
        "preprocessing",
        "How an image becomes the input. The defaults are the settings of the training: those in "
        "the checkpoint, in config.json beside it, or the defaults of timm or of the paper's code.",
    )
    group.add_argument(
        "--mean",
        type=_parse_numbers,
        metavar="R,G,B",
        help="Mean of each channel, for pixel values from 0 to 1.",
    )
    group.add_argument(
        "--std",
        type=_parse_numbers,
        metavar="R,G,B",
        help="Standard deviation of each channel, for pixel values from 0 to 1.",
    )
    group.add_argument(
        "--crop-pct",
        type=float,
        metavar="P",
        help="Side of the input divided by the length to which the shorter side of the image is "
        "resized; then the center is cropped.",
    )
    group.add_argument(
        "--interpolation",
        metavar="NAME",
        help=f"Resampling filter: {', '.join(FILTER_NAMES)}.",
    )


def _parse_numbers(text: str) -> tuple[float, ...]:
    """Parse numbers separated by commas or spaces."""
    try:
        return tuple(map(float, text.replace(",", " ").split()))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not three numbers, as in 0.5,0.5,0.5"
        ) from None
