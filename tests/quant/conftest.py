"""The demo model at 64 pixels, which the tests of quantization share, and a recipe for it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.checkpoints.hub import load_released
from tinyvit.nn.fold import fold_model
from tinyvit.nn.model import TinyViT
from tinyvit.quant.calibration import calibrate
from tinyvit.quant.observers import METHOD
from tinyvit.quant.recipe import Recipe


@pytest.fixture(scope="session")
def noise_images() -> torch.Tensor:
    """Normalized images of noise, float32 (24, 3, 64, 64).

    Noise of the standard deviation 1 would be so unlike photographs that the demo model has outlier
    channels with it.
    """
    return 0.5 * torch.randn(24, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def small_checkpoint() -> Checkpoint:
    """The checkpoint of the demo model at 64 pixels."""
    return load_released("demo").at_size(64, "scaled")


@pytest.fixture(scope="session")
def folded_network(small_checkpoint: Checkpoint) -> TinyViT:
    """The network of `small_checkpoint`, folded."""
    return fold_model(small_checkpoint.build())


@pytest.fixture(scope="session")
def recipe(folded_network: TinyViT, noise_images: torch.Tensor) -> Recipe:
    """A recipe for `folded_network` with 8-bit weights, calibrated on `noise_images`."""
    return Recipe(
        checkpoint_sha256="abc",
        img_size=64,
        scales=calibrate(folded_network, noise_images),
        weight_bits=8,
        float_units=(),
        method=METHOD,
        calibration_sha256="def",
        calibration_count=len(noise_images),
        windows="scaled",
    )
