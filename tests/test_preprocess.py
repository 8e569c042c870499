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
    describe_resize,
    paper_preprocess,
    sam_preprocess,
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
        {"crop": "pad", "resize": 40},
        {"interpolation": "nearest"},
        {"std": (1, 0, 1)},
        {"mean": (1,)},
    ],
)
def test_impossible_values_are_refused(change: dict[str, Any]) -> None:
    values = {**asdict(Preprocess(32, 36)), **change}
    with pytest.raises(ArtifactError, match="not possible"):
        Preprocess(**values)


@pytest.mark.parametrize(
    ("width", "height", "resized"),
    [
        (640, 480, (1024, 768)),
        (480, 640, (768, 1024)),
        (1000, 1000, (1024, 1024)),
        (4096, 2731, (1024, 683)),  # 682.75
        (2048, 3, (1024, 2)),  # 1.5: a half is rounded up
        (5000, 1, (1024, 1)),  # 0.2: at least one pixel
        (3, 2, (1024, 683)),
    ],
)
def test_padded_images_have_the_longest_side_of_the_input(
    width: int, height: int, resized: tuple[int, int]
) -> None:
    assert sam_preprocess(1024).resized_size(width, height) == resized


def test_padded_sizes_are_those_of_sam() -> None:
    """SAM computes them in floating point (segment_anything/utils/transforms.py)."""
    for longest in (*range(1, 300), 1023, 1024, 1025, 1920, 2048, 3000, 4032, 6000, 6144, 8192):
        for shorter in {*range(1, longest + 1, max(1, longest // 97)), longest}:
            scale = 1024 * 1.0 / longest
            expected = int(longest * scale + 0.5), max(1, int(shorter * scale + 0.5))
            assert sam_preprocess(1024).resized_size(longest, shorter) == expected


def test_padding_is_zero_after_normalization() -> None:
    image = Image.new("RGB", (40, 20), (255, 0, 100))
    values = sam_preprocess(64)(image)
    assert (values.shape, values.dtype) == ((3, 64, 64), np.float32)
    # (255, 0, 100) / 255 minus the mean, divided by the standard deviation
    expected = np.array([(1 - 0.485) / 0.229, -0.456 / 0.224, (100 / 255 - 0.406) / 0.225])
    assert np.abs(values[:, :32] - expected[:, None, None]).max() < 1e-5
    assert not values[:, 32:].any()
    tall = sam_preprocess(64)(image.transpose(Image.Transpose.ROTATE_90), layout="NHWC")
    assert tall.shape == (64, 64, 3)
    assert np.abs(tall[:, :32] - expected).max() < 1e-5
    assert not tall[:, 32:].any()


def test_padding_of_pixels_has_the_color_of_the_mean() -> None:
    pixels = sam_preprocess((32, 64)).resize_and_crop(Image.new("RGB", (10, 10), (1, 2, 3)))
    assert (pixels.shape, pixels.dtype) == ((32, 64, 3), np.uint8)
    assert (pixels[:, :32] == (1, 2, 3)).all()
    # 255 times 0.485, 0.456 and 0.406, rounded
    assert (pixels[:, 32:] == (124, 116, 104)).all()


def test_the_resize_of_a_padded_image_is_pillows() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (75, 100, 3), np.uint8))
    resized = np.asarray(image.resize((64, 48), Image.Resampling.BILINEAR))
    assert np.array_equal(sam_preprocess(64).resize_and_crop(image)[:48], resized)


@pytest.mark.parametrize(
    ("preprocess", "description"),
    [
        (sam_preprocess(1024), "resize to fit into 1024 x 1024, padding at the bottom or right"),
        (timm_preprocess(512), "resize to 512 x 512"),
        (timm_preprocess(224), "resize to 235, center crop to 224"),
    ],
)
def test_resizes_are_described(preprocess: Preprocess, description: str) -> None:
    assert describe_resize(preprocess) == description
