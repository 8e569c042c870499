"""Calibration gives a scale for every quantization point, even if it was interrupted."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from tests.helpers.random_images import make_random_image, save_random_images
from tests.helpers.recorded_progress import InterruptingProgress, RecordedProgress
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.model import TinyViT
from tinyvit.quant import observers
from tinyvit.quant.calibration import CalibrationOptions, calibrate, equalize_and_calibrate
from tinyvit.quant.images import pixel_source
from tinyvit.quant.images.calibration_data import read_calibration_set
from tinyvit.quant.images.image_counts import BATCH_SIZE
from tinyvit.quant.quantized_network import attention_modules
from tinyvit.quant.recipe import Recipe


def test_queries_keys_and_values_share_a_scale(recipe: Recipe) -> None:
    assert "stages.1.blocks.0.attn.qkv:in" in recipe.scales
    assert not any(name.endswith(("qkv.q:in", "qkv.k:in", "qkv.v:in")) for name in recipe.scales)


def test_small_attention_is_not_rounded_away(
    folded_network: TinyViT, noise_images: torch.Tensor
) -> None:
    """Random weights spread attention over all positions, so that each gets little of it."""
    network = copy.deepcopy(folded_network)
    largest: dict[str, float] = {}
    for name, attention in attention_modules(network):
        torch.nn.init.normal_(attention.qkv.q.weight, std=1e-3)
        torch.nn.init.zeros_(attention.qkv.q.bias)
        torch.nn.init.zeros_(attention.attention_biases)
        attention.softmax.register_forward_hook(
            lambda _, __, output, name=name: largest.update(
                {name: max(largest.get(name, 0), float(output.max()))}
            )
        )
    scales = calibrate(network, noise_images)
    assert len(largest) == 10
    for name, value in largest.items():
        assert scales[f"{name}.softmax:out"] == pytest.approx(min(value, 1) / 127, rel=0.05)
    assert min(largest.values()) < 0.2


def test_scales_of_attention_are_at_most_that_of_one(recipe: Recipe) -> None:
    scales = [scale for name, scale in recipe.scales.items() if name.endswith("softmax:out")]
    assert len(scales) == 10
    assert max(scales) <= 1 / 127


@pytest.mark.parametrize("finished_batches", [1, 2])
def test_interrupted_calibration_continues(
    folded_network: TinyViT,
    noise_images: torch.Tensor,
    recipe: Recipe,
    tmp_path: Path,
    finished_batches: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observers, "MAX_SAVING_SHARE", math.inf)
    state_file = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        calibrate(
            folded_network,
            noise_images,
            InterruptingProgress(finished_batches * BATCH_SIZE),
            state_file,
        )
    progress = RecordedProgress()
    assert calibrate(folded_network, noise_images, progress, state_file) == recipe.scales
    assert progress.done[0] == (finished_batches + 1) * BATCH_SIZE
    assert not state_file.exists()


def test_the_state_is_written_seldom(
    folded_network: TinyViT, noise_images: torch.Tensor, tmp_path: Path, monkeypatch: Any
) -> None:
    """With a share of almost 0, the state of the first batch is not replaced."""
    monkeypatch.setattr(observers, "MAX_SAVING_SHARE", 1e-9)
    state_file = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        calibrate(folded_network, noise_images, InterruptingProgress(2 * BATCH_SIZE), state_file)
    progress = RecordedProgress()
    calibrate(folded_network, noise_images, progress, state_file)
    assert progress.done[0] == 2 * BATCH_SIZE  # the second batch runs again


def test_a_damaged_state_is_ignored(
    folded_network: TinyViT, noise_images: torch.Tensor, recipe: Recipe, tmp_path: Path
) -> None:
    state_file = tmp_path / "state.pt"
    state_file.write_bytes(b"not a zip file")
    assert calibrate(folded_network, noise_images, state_file=state_file) == recipe.scales


def test_images_that_do_not_fit_into_memory_give_the_same_recipe(
    small_checkpoint: Checkpoint,
    folded_network: TinyViT,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The calibration is also interrupted, and continues in the middle of the images."""
    folder = save_random_images(tmp_path / "photos", range(40), size=(64, 64))
    make_random_image(3, (64, 64)).save(folder / "copy.png")
    preprocess = small_checkpoint.preprocess
    expected_set = read_calibration_set(folder, preprocess)
    expected = equalize_and_calibrate(small_checkpoint, folded_network, expected_set, 7)
    monkeypatch.setattr(pixel_source, "MAX_CACHED_BYTES", 5 * 64 * 64 * 3)
    monkeypatch.setattr(observers, "MAX_SAVING_SHARE", math.inf)
    images = read_calibration_set(folder, preprocess)
    assert (images.sha256, images.source) == (expected_set.sha256, expected_set.source)
    options = CalibrationOptions(tmp_path / "state.pt")
    interruption = InterruptOfCalibration(2 * BATCH_SIZE)
    with pytest.raises(KeyboardInterrupt):
        equalize_and_calibrate(small_checkpoint, folded_network, images, 7, interruption, options)
    again = read_calibration_set(folder, preprocess)
    progress = RecordedProgress()
    recipe = equalize_and_calibrate(small_checkpoint, folded_network, again, 7, progress, options)
    assert recipe == expected
    steps = [done for description, done, _ in progress.steps if description == "calibrating"]
    assert steps[0] == 3 * BATCH_SIZE


class InterruptOfCalibration(InterruptingProgress):
    """Interrupts the calibration, and not the measurements before it."""

    def advance(self, description: str, done: int, total: int) -> None:
        """Interrupt only the calibration."""
        if description == "calibrating":
            super().advance(description, done, total)
