"""Labeled images whose correct classes are known, because the demo model itself predicts them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinyvit.runtimes.classifier import Classifier

IMAGE_COUNT = 40


@pytest.fixture(scope="session")
def shaded_images() -> list[Image.Image]:
    """IMAGE_COUNT images of 96 x 80: blurred shades of one color each.

    The demo model predicts several classes for them, and other classes if the colors change.
    """
    rng = np.random.default_rng(11)
    images = []
    for _ in range(IMAGE_COUNT):
        color, contrast = rng.integers(0, 256, 3), rng.integers(5, 60)
        shade = rng.normal(size=(rng.integers(2, 9), rng.integers(2, 9), 1))
        pixels = np.clip(color + shade * contrast, 0, 255).astype(np.uint8)
        images.append(Image.fromarray(pixels).resize((96, 80), Image.Resampling.BICUBIC))
    return images


@pytest.fixture(scope="session")
def demo_wnids(demo: dict[str, Path], shaded_images: list[Image.Image]) -> list[str]:
    """The WordNet id that the demo model predicts for each of the shaded images."""
    with Classifier(demo["onnx"], threads=1) as classifier:
        return [predictions[0].wnid for predictions in classifier.predict(shaded_images)]


@pytest.fixture(scope="session")
def _saved_class_folders(
    tmp_path_factory: pytest.TempPathFactory,
    shaded_images: list[Image.Image],
    demo_wnids: list[str],
) -> Path:
    folder = tmp_path_factory.mktemp("classes") / "val"
    for i, (image, wnid) in enumerate(zip(shaded_images, demo_wnids)):
        (folder / wnid).mkdir(parents=True, exist_ok=True)
        image.save(folder / wnid / f"{i:03}.png")
    return folder


@pytest.fixture
def class_folders(_saved_class_folders: Path, tmp_path: Path) -> Path:
    """A copy of class folders in which the demo model classifies every image correctly."""
    return Path(shutil.copytree(_saved_class_folders, tmp_path / "val"))
