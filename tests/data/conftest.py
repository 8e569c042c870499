"""Labeled images of noise, once in class folders and once in a folder without subfolders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WNIDS = ("n01440764", "n01443537", "n01484850")
"""WordNet ids of the three classes."""

COUNT = 12
"""Number of images."""


@pytest.fixture
def image_classes() -> list[str]:
    """The WordNet id of each image in `noise_images`."""
    return [WNIDS[(i * i) % len(WNIDS)] for i in range(COUNT)]


@pytest.fixture
def noise_images() -> list[Image.Image]:
    """Twelve different images."""
    rng = np.random.default_rng(11)
    return [Image.fromarray(rng.integers(0, 256, (8, 9, 3), np.uint8)) for _ in range(COUNT)]


@pytest.fixture
def class_folders(
    tmp_path: Path, noise_images: list[Image.Image], image_classes: list[str]
) -> Path:
    """The images in folders named by WordNet id."""
    for i, (image, wnid) in enumerate(zip(noise_images, image_classes)):
        (tmp_path / "val" / wnid).mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "val" / wnid / f"{i:03}.png")
    return tmp_path / "val"


@pytest.fixture
def flat_folder(tmp_path: Path, noise_images: list[Image.Image]) -> Path:
    """The images in one folder, with numbered names such as those of ImageNet."""
    (tmp_path / "flat").mkdir()
    for i, image in enumerate(noise_images):
        image.save(tmp_path / "flat" / f"ILSVRC2012_val_{i + 1:08}.png")
    return tmp_path / "flat"
