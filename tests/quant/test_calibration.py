"""Calibration gives a scale for every quantization point, even if it was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from tests.helpers.recorded_progress import InterruptingProgress, RecordedProgress
from tinyvit.nn.model import TinyViT
from tinyvit.quant.calibration import calibrate
from tinyvit.quant.image_counts import BATCH_SIZE
from tinyvit.quant.recipe import Recipe


def test_queries_keys_and_values_share_a_scale(recipe: Recipe) -> None:
    assert "stages.1.blocks.0.attn.qkv:in" in recipe.scales
    assert not any(name.endswith(("qkv.q:in", "qkv.k:in", "qkv.v:in")) for name in recipe.scales)


@pytest.mark.parametrize("finished_batches", [1, 2])
def test_interrupted_calibration_continues(
    folded_network: TinyViT,
    noise_images: torch.Tensor,
    recipe: Recipe,
    tmp_path: Path,
    finished_batches: int,
) -> None:
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


def test_a_damaged_state_is_ignored(
    folded_network: TinyViT, noise_images: torch.Tensor, recipe: Recipe, tmp_path: Path
) -> None:
    state_file = tmp_path / "state.pt"
    state_file.write_bytes(b"not a zip file")
    assert calibrate(folded_network, noise_images, state_file=state_file) == recipe.scales
