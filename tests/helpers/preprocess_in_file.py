"""Checks that preprocessing inside a file gives the pixels that the host's preprocessing gives."""

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
"""Runs a model on one batch."""

PREPROCESS_KINDS = (
    Preprocess(64, 68),
    Preprocess(224, 235),
    Preprocess(64, 73, interpolation="bilinear"),
    Preprocess(64, 64),
    Preprocess(96, 96, "squash"),
    Preprocess(96, 96, "squash", "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
)
"""Every kind of preprocessing that a file can contain."""

_LANDSCAPE = ((300, 400), (69, 71), (1, 300), (1, 5000))
_PORTRAIT = ((400, 300), (97, 96), (500, 61), (160, 10), (161, 10), (1000, 9), (300, 1), (5000, 1))
IMAGE_SIZES = (*_LANDSCAPE, *_PORTRAIT, (375, 500), (68, 68), (10, 7), (1, 1))
"""(height, width) of images that are hard to resize."""


def preprocess_id(preprocess: Preprocess) -> str:
    """Name a kind of preprocessing in the names of tests."""
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


def level_differences(network_input: Array, pixels: Pixels, preprocess: Preprocess) -> Array:
    """Compare a network's input with the one that the host would make.

    Args:
        network_input: What a file computed from `pixels`, (1, 3, size, size), normalized.
        pixels: The image.
        preprocess: The preprocessing of both.

    Returns:
        Absolute differences in levels of 0 to 255, (size, size, 3).
    """
    std, mean = np.asarray(preprocess.std), np.asarray(preprocess.mean)
    levels = (np.moveaxis(network_input[0].astype(float), 0, -1) * std + mean) * 255
    assert np.abs(levels - np.rint(levels)).max() < 1e-3, "the network receives whole levels"
    expected = preprocess.resize_and_crop(Image.fromarray(pixels))
    return np.asarray(np.abs(np.rint(levels) - expected))


def check_hard_sizes(run: Runner, preprocess: Preprocess) -> None:
    """Check images of every size that is hard to resize."""
    for size in IMAGE_SIZES:
        pixels = make_image(*size)
        differences = level_differences(run(pixels[None]), pixels, preprocess)
        # A pixel that the first of two passes rounds the other way can differ by two levels after
        # the second pass, once in a million.
        assert differences.max() <= 2, size
        assert (differences > 1).sum() <= 2, size
        # Ratios such as 5 : 3 give exact halves, which the last bit of a weight rounds up or down.
        assert (differences > 0).mean() < 0.03, size


def check_image(run: Runner, pixels: Pixels, preprocess: Preprocess, name: str = "") -> None:
    """Check an image whose size is not special: hardly any pixel differs, and by one level only."""
    differences = level_differences(run(pixels[None]), pixels, preprocess)
    assert differences.max() <= 1, name
    assert (differences > 0).mean() < 0.001, name


def check_crop_position(run: Runner, preprocess: Preprocess) -> None:
    """Check where the crop starts, with images that need no resize: no pixel may differ."""
    size = preprocess.size
    for excess in range(9):
        for shape in ((size, size + excess), (size + excess, size)):
            pixels = make_image(*shape)
            assert not level_differences(run(pixels[None]), pixels, preprocess).any(), shape
