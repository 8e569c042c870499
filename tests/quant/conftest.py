"""A small network that the tests of quantization share, and a recipe for it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from tinyvit.nn.checkpoint import Checkpoint
from tinyvit.nn.fold import fold_model
from tinyvit.nn.hub import load_released
from tinyvit.nn.model import TinyViT
from tinyvit.quant.calibration import METHOD, calibrate
from tinyvit.quant.recipe import Recipe


@pytest.fixture(scope="session")
def noise_images() -> torch.Tensor:
    """float32 (24, 3, 64, 64)."""
    return torch.randn(24, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def small_checkpoint() -> Checkpoint:
    """The checkpoint of the demo model for images of 64 x 64."""
    return load_released("demo").at_size(64)


@pytest.fixture(scope="session")
def folded_network(small_checkpoint: Checkpoint) -> TinyViT:
    return fold_model(small_checkpoint.build())


@pytest.fixture(scope="session")
def recipe(folded_network: TinyViT, noise_images: torch.Tensor) -> Recipe:
    """A recipe for `folded_network`, calibrated on `noise_images`."""
    scales = calibrate(folded_network, noise_images)
    return Recipe("abc", 64, scales, 8, (), METHOD, "def", len(noise_images))
