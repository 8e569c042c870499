"""Preprocess against an independent resize-then-crop, and the released evaluations' numbers."""

from __future__ import annotations

import time
from dataclasses import asdict

import numpy as np
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


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8))


def resize(image: Image.Image, width: int, height: int, taps: Image.Resampling) -> Image.Image:
    """In two passes, width first as Pillow did before version 13, which chooses by cost; height first for very tall pictures."""
    between = (image.width, height) if image.height > 16 * image.width else (width, image.height)
    return image.resize(between, taps).resize((width, height), taps)


def resize_then_crop(image: Image.Image, p: Preprocess) -> np.ndarray:
    """As torchvision's Resize and CenterCrop do it."""
    taps = Image.Resampling[p.interpolation.upper()]
    if p.crop == "squash":
        return np.asarray(resize(image, p.size, p.size, taps))
    short, long = min(image.size), max(image.size)
    to = (p.resize, int(p.resize * long / short))
    resized = resize(image, *(to if image.width <= image.height else to[::-1]), taps)
    top, left = round((resized.height - p.size) / 2.0), round((resized.width - p.size) / 2.0)
    return np.asarray(resized.crop((left, top, left + p.size, top + p.size)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crop", ["center", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos"])
def test_pixels_are_those_of_resizing_then_cropping(
    size: tuple[int, int], crop: str, interpolation: str
) -> None:
    p = Preprocess(48, 55 if crop == "center" else 48, crop, interpolation)
    image = picture(*size)
    difference = p.resize_and_crop(image).astype(int) - resize_then_crop(image, p)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    "p",
    [timm_preprocess(224), paper_preprocess(224), timm_preprocess(384), timm_preprocess(512)],
    ids=str,
)
def test_released_evaluations(p: Preprocess) -> None:
    for _ in range(6):
        image = picture(*RNG.integers(100, 700, 2))
        assert np.abs(p.resize_and_crop(image).astype(int) - resize_then_crop(image, p)).max() <= 1


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 2_000_000), (2_000_000, 1)])
@pytest.mark.parametrize(
    "p", [timm_preprocess(224), timm_preprocess(512)], ids=["center", "squash"]
)
def test_thin_pictures_cost_no_more_than_others(size: tuple[int, int], p: Preprocess) -> None:
    start = time.perf_counter()
    assert (p.resize_and_crop(Image.new("RGB", size, (1, 2, 3))) == (1, 2, 3)).all()
    assert time.perf_counter() - start < 2


def test_normalize_and_call() -> None:
    p, image = timm_preprocess(224), picture(300, 260)
    x = p.resize_and_crop(image)
    expected = ((x / 255 - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)
    got = p(image)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    assert np.abs(got - expected).max() < 1e-5
    assert np.array_equal(p.normalize(np.stack([x, x]))[1], got)


def test_values() -> None:
    assert (timm_preprocess(224).resize, timm_preprocess(224).crop) == (235, "center")
    assert (paper_preprocess(224).resize, paper_preprocess(224).crop) == (256, "center")
    assert (timm_preprocess(384).resize, timm_preprocess(384).crop) == (384, "center")
    assert (paper_preprocess(384).resize, paper_preprocess(384).crop) == (384, "squash")
    assert timm_preprocess(512) == paper_preprocess(512) == Preprocess(512, 512, "squash")
    assert timm_preprocess(224).resized_size(500, 375) == (313, 235)


def test_from_dict_is_the_inverse_of_asdict() -> None:
    p = Preprocess(96, 100, "center", "bilinear", (0.1, 0.2, 0.3), (1, 2, 3))
    assert Preprocess.from_dict(asdict(p)) == p


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0},
        {"size": "a"},
        {"resize": 10},
        {"resize": 10**9},
        {"crop": "none"},
        {"crop": "squash", "resize": 40},
        {"interpolation": "nearest"},
        {"std": (1, 0, 1)},
        {"mean": (1,)},
        {"mean": None},
        {"more": 1},
    ],
)
def test_impossible_records_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ArtifactError):
        Preprocess.from_dict({**asdict(Preprocess(32, 36)), **change})
