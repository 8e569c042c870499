"""Preprocessing agrees with an independent resize and crop, and with released evaluations."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tinyvit.errors import ArtifactError
from tinyvit.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocess,
    paper_preprocess,
    timm_preprocess,
)

RNG = np.random.default_rng(1)
SIZES = [
    (1, 1),
    (32, 32),
    (33, 32),
    (31, 90),
    (500, 375),
    (375, 500),
    (640, 480),
    (224, 224),
    (257, 255),
    (1000, 60),
    (7, 300),
]


def noise_image(width: int, height: int) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8))


def resize(image: Image.Image, width: int, height: int, taps: Image.Resampling) -> Image.Image:
    """Resize in two passes, as Pillow did before version 13, which chooses the order by cost.

    The width is first, except for very tall images.
    """
    is_tall = image.height > 16 * image.width
    between = (image.width, height) if is_tall else (width, image.height)
    return image.resize(between, taps).resize((width, height), taps)


def resize_then_crop(image: Image.Image, preprocess: Preprocess) -> npt.NDArray[np.uint8]:
    """Resize and crop as torchvision's Resize and CenterCrop do."""
    taps = Image.Resampling[preprocess.interpolation.upper()]
    size = preprocess.size
    if preprocess.crop == "squash":
        return np.asarray(resize(image, size, size, taps))
    short, long = min(image.size), max(image.size)
    sides = (preprocess.resize, int(preprocess.resize * long / short))
    width, height = sides if image.width <= image.height else sides[::-1]
    resized = resize(image, width, height, taps)
    top, left = round((resized.height - size) / 2.0), round((resized.width - size) / 2.0)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crop", ["center", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos"])
def test_pixels_are_those_of_resizing_then_cropping(
    size: tuple[int, int],
    crop: Literal["center", "squash"],
    interpolation: Literal["bicubic", "bilinear", "lanczos"],
) -> None:
    preprocess = Preprocess(48, 55 if crop == "center" else 48, crop, interpolation)
    image = noise_image(*size)
    pixels = preprocess.resize_and_crop(image).astype(int)
    assert np.abs(pixels - resize_then_crop(image, preprocess)).max() <= 1


@pytest.mark.parametrize(
    "preprocess",
    [timm_preprocess(224), paper_preprocess(224), timm_preprocess(384), timm_preprocess(512)],
    ids=str,
)
def test_released_evaluations_resize_then_crop(preprocess: Preprocess) -> None:
    for _ in range(6):
        image = noise_image(*RNG.integers(100, 700, 2))
        pixels = preprocess.resize_and_crop(image).astype(int)
        assert np.abs(pixels - resize_then_crop(image, preprocess)).max() <= 1


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 2_000_000), (2_000_000, 1)])
@pytest.mark.parametrize(
    "preprocess", [timm_preprocess(224), timm_preprocess(512)], ids=["center", "squash"]
)
def test_thin_images_are_as_fast_as_others(size: tuple[int, int], preprocess: Preprocess) -> None:
    start = time.perf_counter()
    assert (preprocess.resize_and_crop(Image.new("RGB", size, (1, 2, 3))) == (1, 2, 3)).all()
    assert time.perf_counter() - start < 2


def test_normalized_images_are_float32_channels_first() -> None:
    preprocess, image = timm_preprocess(224), noise_image(300, 260)
    pixels = preprocess.resize_and_crop(image)
    expected = ((pixels / 255 - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)
    values = preprocess(image)
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    assert np.abs(values - expected).max() < 1e-5
    assert np.array_equal(preprocess.normalize(np.stack([pixels, pixels]))[1], values)


def test_rules_of_timm_and_of_the_paper() -> None:
    assert (timm_preprocess(224).resize, timm_preprocess(224).crop) == (235, "center")
    assert (paper_preprocess(224).resize, paper_preprocess(224).crop) == (256, "center")
    assert (timm_preprocess(384).resize, timm_preprocess(384).crop) == (384, "center")
    assert (paper_preprocess(384).resize, paper_preprocess(384).crop) == (384, "squash")
    assert timm_preprocess(512) == paper_preprocess(512) == Preprocess(512, 512, "squash")
    assert timm_preprocess(224).resized_size(500, 375) == (313, 235)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0},
        {"resize": 10},
        {"resize": 10**9},
        {"crop": "none"},
        {"crop": "squash", "resize": 40},
        {"interpolation": "nearest"},
        {"std": (1, 0, 1)},
        {"mean": (1,)},
    ],
)
def test_impossible_values_are_refused(change: dict[str, Any]) -> None:
    values = {**asdict(Preprocess(32, 36)), **change}
    with pytest.raises(ArtifactError, match="not possible"):
        Preprocess(**values)
