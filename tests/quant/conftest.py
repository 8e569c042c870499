"""What the tests of quantization share: a small network (the demo's weights at 64 pixels) and a recipe for it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from tinyvit.nn.fold import fold
from tinyvit.nn.hub import load_released
from tinyvit.nn.model import TinyViT
from tinyvit.quant.calibrate import METHOD, calibrate
from tinyvit.quant.recipe import Recipe


@pytest.fixture(scope="session")
def noise() -> torch.Tensor:
    """float32 (24, 3, 64, 64)."""
    return torch.randn(24, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def small() -> TinyViT:
    return fold(load_released("demo").at_size(64).build())


@pytest.fixture(scope="session")
def recipe(small: TinyViT, noise: torch.Tensor) -> Recipe:
    return Recipe("abc", 64, calibrate(small, noise), 8, (), METHOD, "def", len(noise))
