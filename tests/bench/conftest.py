"""Labeled pictures that a clone can make: the demo model's own answers to blurred noise are their classes, so its accuracy is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinyvit.runtimes.classifier import Classifier

COUNT = 40


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """COUNT pictures of 96 x 80: light and shade over a color, so that several classes are answered, and others where colors are off."""
    rng = np.random.default_rng(11)
    made = []
    for _ in range(COUNT):
        color, contrast = rng.integers(0, 256, 3), rng.integers(5, 60)
        shade = rng.normal(size=(rng.integers(2, 9), rng.integers(2, 9), 1))
        small = np.clip(color + shade * contrast, 0, 255).astype(np.uint8)
        made.append(Image.fromarray(small).resize((96, 80), Image.Resampling.BICUBIC))
    return made


@pytest.fixture(scope="session")
def answered(demo: dict[str, Path], pictures: list[Image.Image]) -> list[str]:
    """The WordNet id that the demo model gives each."""
    with Classifier(demo["onnx"], threads=1) as classifier:
        return [best[0].wnid for best in classifier.predict(pictures)]


@pytest.fixture
def folders(tmp_path: Path, pictures: list[Image.Image], answered: list[str]) -> Path:
    """Class folders, of which the demo model gets every picture right."""
    for i, (picture, wnid) in enumerate(zip(pictures, answered)):
        (tmp_path / "val" / wnid).mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "val" / wnid / f"{i:03}.png")
    return tmp_path / "val"


@pytest.fixture
def flat(tmp_path: Path, pictures: list[Image.Image]) -> Path:
    """The same in no class folders, numbered as ImageNet's."""
    (tmp_path / "flat").mkdir()
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / "flat" / f"ILSVRC2012_val_{i + 1:08}.png")
    return tmp_path / "flat"
