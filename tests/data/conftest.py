"""Labeled images that differ from each other, in class folders and in a flat folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WNIDS = ("n01440764", "n01443537", "n01484850")
COUNT = 12


@pytest.fixture
def image_classes() -> list[str]:
    """The WordNet id of each image."""
    return [WNIDS[(i * i) % len(WNIDS)] for i in range(COUNT)]


@pytest.fixture
def noise_images() -> list[Image.Image]:
    rng = np.random.default_rng(11)
    return [Image.fromarray(rng.integers(0, 256, (8, 9, 3), np.uint8)) for _ in range(COUNT)]


@pytest.fixture
def folders(tmp_path: Path, noise_images: list[Image.Image], image_classes: list[str]) -> Path:
    for i, (image, wnid) in enumerate(zip(noise_images, image_classes)):
        (tmp_path / "val" / wnid).mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "val" / wnid / f"{i:03}.png")
    return tmp_path / "val"


@pytest.fixture
def flat(tmp_path: Path, noise_images: list[Image.Image]) -> Path:
    """The same images without class folders, numbered as ImageNet's are."""
    (tmp_path / "flat").mkdir()
    for i, image in enumerate(noise_images):
        image.save(tmp_path / "flat" / f"ILSVRC2012_val_{i + 1:08}.png")
    return tmp_path / "flat"
