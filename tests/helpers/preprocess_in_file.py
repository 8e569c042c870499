"""Checks that a file with preprocessing inside computes the same pixels as `Preprocess`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinyvit.preprocess import Preprocess

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]
Runner = Callable[[Array], Array]
"""A function that runs a model on one batch: input -> output."""

PREPROCESS_KINDS = (
    Preprocess(64, 68),
    Preprocess(224, 235),
    Preprocess(64, 73, interpolation="bilinear"),
    Preprocess(64, 64),
    Preprocess(96, 96, "squash"),
    Preprocess(96, 96, "squash", "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
    Preprocess(67, 67, "pad", "bilinear"),
    Preprocess(96, 96, "pad"),
)
"""At least one example of every crop and filter that a file can contain."""

_LANDSCAPE = ((300, 400), (69, 71), (1, 300), (1, 5000))
_PORTRAIT = ((400, 300), (97, 96), (500, 61), (160, 10), (161, 10), (1000, 9), (300, 1), (5000, 1))
IMAGE_SIZES = (*_LANDSCAPE, *_PORTRAIT, (375, 500), (68, 68), (10, 7), (1, 1))
"""(height, width) of images that are hard to resize."""


def name_preprocess(preprocess: Preprocess) -> str:
    """Return the name of a preprocessing for test reports."""
    return f"{preprocess.size}-{preprocess.resize}-{preprocess.crop}-{preprocess.interpolation}"


def make_image(height: int, width: int) -> Pixels:
    """Make an image whose left half is smooth, and whose right half is noise."""
    rng = np.random.default_rng(height * 10007 + width)
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    pixels[:, : width // 2] = np.linspace(0, 255, width // 2, dtype=np.uint8)[:, None]
    return pixels


def read_photographs(shared: Path) -> Iterator[tuple[str, Pixels]]:
    """Yield the name and the pixels of every tenth real photograph."""
    for path in sorted((shared / "data" / "imagenet-sample-250").iterdir())[::10]:
        yield path.name, np.asarray(Image.open(path).convert("RGB"))


def compute_level_differences(
    network_input: Array, pixels: Pixels, preprocess: Preprocess
) -> Array:
    """Compare a network's input with the one that `Preprocess` makes outside of the file.

    Args:
        network_input: The input that a file computed from `pixels`: normalized, (1, 3, size, size).
        pixels: The image.
        preprocess: The preprocessing that is inside the file.

    Returns:
        Absolute differences of the pixels, (size, size, 3), in levels from 0 to 255; without the
        padding, which must be 0.
    """
    image = Image.fromarray(pixels)
    expected = preprocess.resize_and_crop(image)
    if preprocess.crop == "pad":
        width, height = preprocess.resized_size(*image.size)
        assert not network_input[:, :, height:].any()
        assert not network_input[:, :, :, width:].any()
        network_input, expected = network_input[:, :, :height, :width], expected[:height, :width]
    std, mean = np.asarray(preprocess.std), np.asarray(preprocess.mean)
    levels = (np.moveaxis(network_input[0].astype(float), 0, -1) * std + mean) * 255
    assert np.abs(levels - np.rint(levels)).max() < 1e-3, "the network receives whole levels"
    return np.asarray(np.abs(np.rint(levels) - expected))


def check_hard_sizes(run: Runner, preprocess: Preprocess) -> None:
    """Check images of all `IMAGE_SIZES`: few pixels differ, and by two levels at most."""
    for size in IMAGE_SIZES:
        pixels = make_image(*size)
        differences = compute_level_differences(run(pixels[None]), pixels, preprocess)
        # Images are resized in two passes, each of which rounds. About one pixel in a million
        # is rounded differently in the first pass, and then differs by two levels.
        assert differences.max() <= 2, size
        assert (differences > 1).sum() <= 2, size
        # Ratios such as 5 : 3 give values halfway between two levels. The last bit of a weight
        # decides whether they are rounded up or down.
        assert (differences > 0).mean() < 0.03, size


def check_image(run: Runner, pixels: Pixels, preprocess: Preprocess, name: str = "") -> None:
    """Check an image of ordinary size: hardly any pixel differs, and by one level at most."""
    differences = compute_level_differences(run(pixels[None]), pixels, preprocess)
    assert differences.max() <= 1, name
    assert (differences > 0).mean() < 0.001, name


def check_crop_position(run: Runner, preprocess: Preprocess) -> None:
    """Check where the crop starts: with images that are not resized, no pixel may differ."""
    size = preprocess.size
    for excess in range(9):
        for shape in ((size, size + excess), (size + excess, size)):
            pixels = make_image(*shape)
            assert not compute_level_differences(run(pixels[None]), pixels, preprocess).any(), shape
