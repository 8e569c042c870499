"""A view of an image depends only on its seed, and its pixels stay the same in every release."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinyvit.data.class_folders import read_image_folder
from tinyvit.distill.augmentation.probe import hash_probe_views
from tinyvit.distill.augmentation.randaugment import (
    FILL_COLOR,
    OPERATIONS,
    OperationParameters,
    rand_augment,
)
from tinyvit.distill.augmentation.settings import Augmentation
from tinyvit.distill.augmentation.views import (
    OpenImage,
    View,
    ViewSource,
    compute_view_seed,
    make_view,
)
from tinyvit.errors import RequestError


def view_of(
    open_image: OpenImage, count: int, index: int, seed: int, size: int, augmentation: Augmentation
) -> View:
    return make_view(ViewSource(open_image, count, size, augmentation), index, seed)


ALL = Augmentation(mixup=0.8, cutmix=1.0, erase=0.5)
CENTER = Augmentation(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, operations=0, erase=0.0)


def test_a_view_depends_only_on_its_seed(image_folder: Path) -> None:
    images = read_image_folder(image_folder)
    first = [view_of(images.open, 12, 3, seed, 32, ALL) for seed in range(20)]
    again = [view_of(images.open, 12, 3, seed, 32, ALL) for seed in range(20)]
    assert all(
        np.array_equal(a.pixels, b.pixels)
        and (a.partner, a.own_fraction) == (b.partner, b.own_fraction)
        for a, b in zip(first, again)
    )
    assert len({view.pixels.tobytes() for view in first}) == 20


def test_probe_views_have_the_recorded_hash(image_folder: Path) -> None:
    """Another hash means that existing stores belong to other crops: increase settings.VERSION."""
    images = read_image_folder(image_folder)
    assert (
        hash_probe_views(ViewSource(images.open, 12, 32, ALL), images.keys, 0)[:16]
        == "096c00b7758a206e"
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"scale": (0.5, 1.0)},
        {"flip": 1.0},
        {"operations": 1},
        {"magnitude": 5.0},
        {"erase": 0.0},
        {"mixup": 0.0},
    ],
)
def test_every_setting_changes_the_hash_of_the_probe_views(
    image_folder: Path, changed: dict[str, object]
) -> None:
    images = read_image_folder(image_folder)
    keys, other = list(images.keys), replace(ALL, **changed)  # type: ignore[arg-type]
    assert hash_probe_views(ViewSource(images.open, 12, 32, ALL), keys, 0) != hash_probe_views(
        ViewSource(images.open, 12, 32, other), keys, 0
    )


def test_a_view_at_another_size_shows_the_same_crop() -> None:
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (256, 1, 3)))
    augmentation = replace(CENTER, scale=(0.1, 0.9), ratio=(0.75, 4 / 3))
    for seed in range(10):
        small, large = (
            view_of(lambda _: ramp, 1, 0, seed, size, augmentation).pixels.astype(float)
            for size in (32, 128)
        )
        assert abs(small.mean() - large.mean()) < 1


@pytest.mark.parametrize("mixing", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
def test_a_mixed_view_at_another_size_has_the_same_partner(
    image_folder: Path, mixing: dict[str, float]
) -> None:
    images = read_image_folder(image_folder)
    augmentation = Augmentation(erase=0.5, **mixing)  # type: ignore[arg-type]
    for seed in range(100):
        small, large = (view_of(images.open, 12, 3, seed, size, augmentation) for size in (32, 64))
        assert small.partner == large.partner
        assert small.own_fraction == pytest.approx(
            large.own_fraction, abs=0.07
        )  # the box's edges are whole pixels


def test_without_augmentation_a_view_is_the_image() -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (32, 32, 3)).astype(np.uint8)
    assert np.array_equal(
        view_of(lambda _: Image.fromarray(pixels), 1, 0, 7, 32, CENTER).pixels, pixels
    )
    flipped = view_of(
        lambda _: Image.fromarray(pixels), 1, 0, 7, 32, replace(CENTER, flip=1.0)
    ).pixels
    assert np.array_equal(flipped, pixels[:, ::-1])


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_own_fraction_agrees_with_the_pixels(mixing: str) -> None:
    black, white = (Image.new("RGB", (32, 32), (level,) * 3) for level in (0, 255))
    augmentation = replace(CENTER, **{mixing: 1.0})
    own_fractions = []
    for seed in range(30):
        view = view_of(lambda index: white if index == 0 else black, 2, 0, seed, 32, augmentation)
        own_fractions.append(view.own_fraction)
        if view.partner == 1:
            assert abs(view.pixels.mean() / 255 - view.own_fraction) < 0.01
        else:
            assert view.pixels.min() >= 254
    assert min(own_fractions) < 0.3 < 0.8 < max(own_fractions)


def test_erasing_covers_the_configured_area() -> None:
    gray = Image.new("RGB", (64, 64), (128,) * 3)
    erased_fractions = [
        float(
            (view_of(lambda _: gray, 1, 0, seed, 64, replace(CENTER, erase=1.0)).pixels != 128)
            .any(-1)
            .mean()
        )
        for seed in range(200)
    ]
    assert min(erased_fractions) > 0.01
    assert max(erased_fractions) < 0.36
    assert 0.14 < float(np.mean(erased_fractions)) < 0.2


@pytest.mark.parametrize("size", [(2000, 10), (10, 2000), (1, 1), (3, 500)])
def test_narrow_images_are_cropped_too(size: tuple[int, int]) -> None:
    for seed in range(5):
        assert view_of(
            lambda _: Image.new("RGB", size), 1, 0, seed, 32, Augmentation()
        ).pixels.shape == (32, 32, 3)


def test_seeds_depend_on_epoch_view_and_key_alone() -> None:
    seeds = {
        compute_view_seed(s, e, k, v)
        for s in (0, 1)
        for e in (0, 1)
        for k in ("a", "b")
        for v in (0, 1)
    }
    assert len(seeds) == 16
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert compute_view_seed(0, 3, "n01443537/a.jpg", 0) == 971943639


@pytest.mark.parametrize("operation", range(len(OPERATIONS)))
@pytest.mark.parametrize("strength", [0.0, 0.9, 1.0])
def test_operations_keep_size_and_mode(operation: int, strength: float) -> None:
    image = Image.fromarray(np.random.RandomState(1).randint(0, 256, (30, 20, 3)).astype(np.uint8))
    for sign in (-1, 1):
        changed = OPERATIONS[operation](image, OperationParameters(strength, sign))
        assert (changed.size, changed.mode) == (image.size, "RGB")


def test_magnitudes_are_those_of_timm() -> None:
    levels = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (8, 1, 3)))
    draw = OperationParameters(0.9, 1)
    posterized, solarized, added = (
        np.asarray(OPERATIONS[i](levels, draw))[0, :, 0] for i in (4, 5, 6)
    )
    assert set(posterized.tolist()) == {0, 128}  # 4 - int(3.6) = 1 bit
    assert solarized[25] == 25 and solarized[26] == 255 - 26  # noqa: PT018  (256 - int(230.4) = 26)
    assert added[0] == 99
    moved = np.asarray(OPERATIONS[13](levels, draw))[0]
    assert tuple(moved[-1]) == FILL_COLOR
    assert moved[0, 0] == pytest.approx(0.45 * 0.9 * 256, abs=1.5)


@pytest.mark.parametrize("operation", [3, 11, 12])
def test_operations_that_move_pixels_interpolate_bicubically(operation: int) -> None:
    """Only a bicubic filter overshoots beside an edge between two gray levels."""
    pixels = np.full((32, 32, 3), 64, np.uint8)
    pixels[8:24, 8:24] = 192
    changed = OPERATIONS[operation](Image.fromarray(pixels), OperationParameters(0.5, 1))
    inner = np.asarray(changed)[8:24, 8:24]
    assert inner.max() > 192


def test_operations_are_applied_with_probability_one_half() -> None:
    image = Image.fromarray(np.random.RandomState(2).randint(60, 200, (16, 16, 3)).astype(np.uint8))
    same = sum(
        rand_augment(image, np.random.RandomState(seed), 1, 9, 0.5).tobytes() == image.tobytes()
        for seed in range(300)
    )
    assert 120 < same < 190


@pytest.mark.parametrize(
    "bad",
    [
        {"scale": (0.0, 1.0)},
        {"scale": (0.5, 1.5)},
        {"flip": 2.0},
        {"mixup": -1.0},
        {"magnitude": 11.0},
    ],
)
def test_impossible_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="augmentation settings are not valid"):
        Augmentation(**bad)  # type: ignore[arg-type]
