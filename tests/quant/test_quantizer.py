"""The recipe and the images that all targets share are prepared from a request."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

from tests.helpers.recorded_progress import RecordedProgress
from tinyvit.errors import RequestError
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.model import TinyViT
from tinyvit.quant import quantizer
from tinyvit.quant.accuracy_budget import AccuracyBudget
from tinyvit.quant.config import QuantizationConfig
from tinyvit.quant.images import quantization_images
from tinyvit.quant.images.quantization_images import SENSITIVITY_COUNT
from tinyvit.quant.quantizer import PreparedQuantization, prepare_quantization
from tinyvit.quant.recipe import Recipe

COFFEE_WNID = "n07920052"
COFFEE_CLASS = 11
"""Index of coffee among the labels of the demo model."""


@pytest.fixture
def recipe_file(recipe: Recipe, small_checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """A recipe file for `small_checkpoint`."""
    path = tmp_path / "recipe.json"
    replace(recipe, checkpoint_sha256=small_checkpoint.sha256, weight_bits=7).save(path)
    return path


@pytest.fixture
def coffee_folder(tmp_path: Path) -> Path:
    """An empty class folder in tmp_path / "val"."""
    folder = tmp_path / "val" / COFFEE_WNID
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, which does not exist yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TINYVIT_CACHE", str(folder))
    return folder


def prepare(
    config: QuantizationConfig, checkpoint: Checkpoint, folded: TinyViT, progress: RecordedProgress
) -> PreparedQuantization:
    """Prepare the quantization of a checkpoint with its own labels."""
    assert checkpoint.labels is not None
    return prepare_quantization(
        config, checkpoint, checkpoint.labels, checkpoint.build(), folded, progress
    )


def test_a_recipe_and_labeled_images_need_no_calibration_images(
    small_checkpoint: Checkpoint,
    folded_network: TinyViT,
    recipe_file: Path,
    coffee_folder: Path,
    images: Path,
    empty_cache: Path,
) -> None:
    """Making synthetic images takes minutes, so they are made only when layers are ranked."""
    shutil.copy(images / "coffee.jpg", coffee_folder)
    config = QuantizationConfig(
        calib_count=SENSITIVITY_COUNT, recipe=recipe_file, val_data=coffee_folder.parent
    )
    progress = RecordedProgress()
    prepared = prepare(config, small_checkpoint, folded_network, progress)
    pixels, classes = next(prepared.make_batches())
    assert pixels.shape == (1, 64, 64, 3)
    assert classes is not None
    assert classes.tolist() == [COFFEE_CLASS]
    assert prepared.count_images() == 1
    assert not empty_cache.exists()
    assert not progress.steps
    assert prepared.make_sensitivity_images().shape == (SENSITIVITY_COUNT, 3, 64, 64)
    assert empty_cache.exists()
    assert progress.steps[-1] == ("making synthetic images, steps", 20, 20)


def test_class_folders_are_matched_before_calibration(
    small_checkpoint: Checkpoint,
    folded_network: TinyViT,
    images: Path,
    empty_cache: Path,
    tmp_path: Path,
) -> None:
    """Calibration takes minutes."""
    (tmp_path / "val" / "coffee cup").mkdir(parents=True)
    shutil.copy(images / "coffee.jpg", tmp_path / "val" / "coffee cup")
    progress = RecordedProgress()
    config = QuantizationConfig(val_data=tmp_path / "val")
    with pytest.raises(
        RequestError,
        match=r"\(coffee cup\).*; the model's 12 classes are tench \(n01440764\), ",
    ):
        prepare(config, small_checkpoint, folded_network, progress)
    assert progress.messages == []
    assert not empty_cache.exists()


@pytest.mark.parametrize(
    ("options", "is_synthetic"),
    [
        ({}, True),
        ({"calib_data": "synthetic"}, True),
        ({"calib_data": Path("images")}, False),
        ({"val_data": Path("val")}, False),
    ],
)
def test_the_options_tell_whether_int8_is_measured_on_synthetic_images(
    options: dict[str, Any], is_synthetic: bool
) -> None:
    assert QuantizationConfig(**options).measures_on_synthetic_images is is_synthetic


def test_a_recipe_states_that_its_images_were_synthetic(
    small_checkpoint: Checkpoint,
    folded_network: TinyViT,
    recipe: Recipe,
    empty_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quantizer, "equalize_and_calibrate", lambda *_args, **_options: recipe)
    monkeypatch.setattr(
        quantization_images,
        "synthesize_images",
        lambda *_: SimpleNamespace(sha256="", source="synthetic images", pixels=[]),
    )
    prepared = prepare(QuantizationConfig(), small_checkpoint, folded_network, RecordedProgress())
    assert prepared.recipe.is_synthetic
    assert not recipe.is_synthetic


def test_unreadable_validation_images_are_reported_once(
    small_checkpoint: Checkpoint,
    folded_network: TinyViT,
    recipe_file: Path,
    coffee_folder: Path,
    images: Path,
) -> None:
    for i in range(39):
        shutil.copy(images / "coffee.jpg", coffee_folder / f"{i}.jpg")
    (coffee_folder / "x.jpg").write_bytes(b"not an image")
    config = QuantizationConfig(recipe=recipe_file, val_data=coffee_folder.parent)
    progress = RecordedProgress()
    prepared = prepare(config, small_checkpoint, folded_network, progress)
    passes = [sum(len(pixels) for pixels, _ in prepared.make_batches()) for _ in range(2)]
    assert passes == [39, 39]
    assert progress.messages == [
        f"using the recipe {recipe_file}",
        "1 of 40 validation images cannot be read and are left out",
    ]


def test_nothing_is_measured_without_images(
    small_checkpoint: Checkpoint, folded_network: TinyViT, recipe_file: Path, empty_cache: Path
) -> None:
    progress = RecordedProgress()
    for config in (QuantizationConfig(recipe=recipe_file), QuantizationConfig(weights_only=True)):
        prepared = prepare(config, small_checkpoint, folded_network, progress)
        assert not prepared.is_measured
    assert sum("the accuracy of int8 is not measured" in text for text in progress.messages) == 2
    assert not empty_cache.exists()


@pytest.mark.parametrize(("calib_data", "reason"), [(None, "no --calib-data: "), ("synthetic", "")])
def test_a_recipe_needs_synthetic_images_only_to_measure(
    small_checkpoint: Checkpoint,
    folded_network: TinyViT,
    recipe_file: Path,
    empty_cache: Path,
    calib_data: str | None,
    reason: str,
) -> None:
    config = QuantizationConfig(
        calib_data=calib_data, calib_count=SENSITIVITY_COUNT, recipe=recipe_file
    )
    progress = RecordedProgress()
    prepared = prepare(config, small_checkpoint, folded_network, progress)
    pixels, classes = next(prepared.make_batches())
    assert len(pixels) == SENSITIVITY_COUNT == prepared.count_images()
    assert classes is None
    assert progress.messages == [
        f"{reason}measuring on images made from the network itself; only --val-data shows how much"
        " accuracy int8 costs",
        f"using the recipe {recipe_file}",
        f"making {SENSITIVITY_COUNT} synthetic images for measuring int8 from the network itself",
    ]


@pytest.mark.parametrize(
    ("options", "needs_measurement"),
    [
        ({}, False),
        ({"calib_data": "synthetic"}, True),
        ({"val_data": Path("val")}, True),
        ({"calib_count": 64}, True),
        ({"calib_seed": 1}, True),
        ({"budget": AccuracyBudget(min_agreement=99)}, True),
        ({"recipe": Path("absent.json")}, True),
        ({"recipe": None}, True),
    ],
)
def test_int8_is_measured_if_it_was_asked_for(
    options: dict[str, Any], needs_measurement: bool, recipe_file: Path
) -> None:
    config = QuantizationConfig(**{"recipe": recipe_file, **options})
    assert config.needs_measurement is needs_measurement


@pytest.mark.parametrize("change", [{"mean": (0.5, 0.5, 0.5)}, {"windows": "checkpoint"}])
def test_a_recipe_for_another_input_is_refused(
    small_checkpoint: Checkpoint,
    folded_network: TinyViT,
    recipe: Recipe,
    tmp_path: Path,
    change: dict[str, Any],
) -> None:
    path = tmp_path / "other.json"
    replace(recipe, checkpoint_sha256=small_checkpoint.sha256, weight_bits=7, **change).save(path)
    with pytest.raises(RequestError, match="attention windows, or mean and std: to make a new"):
        prepare(
            QuantizationConfig(recipe=path), small_checkpoint, folded_network, RecordedProgress()
        )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (QuantizationConfig(cpu="sse"), "--cpu sse is not a known value: use one of any, vnni"),
        (QuantizationConfig(weights_only=True, cpu="vnni"), "leave out --recipe and --cpu"),
        (QuantizationConfig(weights_only=True, recipe=Path("r")), "leave out --recipe and --cpu"),
        (
            QuantizationConfig(calib_count=3),
            "3 calibration .* --calib-count a number from 32 to 10000$",
        ),
        (
            QuantizationConfig(calib_count=10_001),  # of synthetic images
            "10001 calibration .* --calib-count a number from 32 to 10000$",
        ),
        (
            QuantizationConfig(calib_data="photos", calib_count=1_000_001),
            "1000001 calibration .* --calib-count a number from 32 to 1000000$",
        ),
        (QuantizationConfig(calib_data="nowhere"), "--calib-data nowhere does not exist"),
        (QuantizationConfig(val_data=Path("nowhere")), "--val-data nowhere does not exist"),
        (
            QuantizationConfig(budget=AccuracyBudget(max_drop=-1)),
            "--max-drop -1 is outside the allowed range: give 0 to 100 percentage points",
        ),
        (
            QuantizationConfig(budget=AccuracyBudget(min_agreement=101)),
            "--min-agreement 101 is outside the allowed range: give 0 to 100 percent",
        ),
        (QuantizationConfig(min_speedup=0), "--min-speedup 0 is not above 0"),
        (QuantizationConfig(min_speedup=float("nan")), "--min-speedup nan is not above 0"),
    ],
)
def test_values_that_are_not_allowed_are_refused(config: QuantizationConfig, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        config.validate()


def test_the_weight_width_of_a_recipe_must_suit_the_cpu(recipe_file: Path) -> None:
    QuantizationConfig(recipe=recipe_file).validate()
    with pytest.raises(RequestError, match="weights of 7 bits, but --cpu vnni needs 8 bits"):
        QuantizationConfig(recipe=recipe_file, cpu="vnni").validate()
