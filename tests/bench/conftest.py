"""Labeled images of known classes: those that a small demo model predicts for them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinyvit.runtimes.classifier import Classifier

IMAGE_COUNT = 40


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo model at 64 pixels as {"onnx": demo_64.onnx, "openvino": demo_64.xml}.

    It is 12 times as fast as at 224 pixels. The second file is there if OpenVINO is installed.
    """
    pytest.importorskip("torch")
    from tinyvit.export import ExportConfig, export_all

    config = ExportConfig(
        model="demo",
        img_size=64,
        targets=("onnx", "openvino"),
        output=tmp_path_factory.mktemp("small_demo"),
    )
    return {artifact.manifest.target: artifact.path for artifact in export_all(config).artifacts}


@pytest.fixture(scope="session")
def shaded_images() -> list[Image.Image]:
    """IMAGE_COUNT images of 96 x 80: blurred shades of one color each.

    The small demo model predicts several classes for them, and other classes if the colors change.
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
def demo_wnids(small_demo: dict[str, Path], shaded_images: list[Image.Image]) -> list[str]:
    """The WordNet id that the small demo model predicts for each of the shaded images."""
    with Classifier(small_demo["onnx"], threads=1) as classifier:
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
    """A copy of class folders in which the small demo model classifies every image correctly."""
    return Path(shutil.copytree(_saved_class_folders, tmp_path / "val"))
