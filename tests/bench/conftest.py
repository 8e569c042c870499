"""A small artifact, and images that are labeled with the classes that it predicts for them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.small_classifiers import build_classifier
from tinyvit.runtimes.classifier import Classifier

IMAGE_COUNT = 40
"""Number of images in `shaded_images`."""


@pytest.fixture(scope="session")
def small_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .onnx file that takes any number of 32 x 32 images and runs in microseconds."""
    folder = tmp_path_factory.mktemp("small_classifier")
    return build_classifier(folder, ".onnx", "host", batch="batch", with_manifest=True)


@pytest.fixture(scope="session")
def small_openvino_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network as an OpenVINO IR, which consists of two files."""
    folder = tmp_path_factory.mktemp("small_openvino_classifier")
    return build_classifier(folder, ".xml", "host", batch="batch", with_manifest=True)


@pytest.fixture(scope="session")
def shaded_images() -> list[Image.Image]:
    """Forty images of 96 x 80 pixels, each with blurred shades of one color.

    The small classifier predicts different classes for them. If the colors of an image are
    exchanged, it predicts another class.
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
def predicted_class_folders(
    small_classifier: Path,
    shaded_images: list[Image.Image],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Class folders of `shaded_images`, named by the classes that the small classifier predicts."""
    folder = tmp_path_factory.mktemp("classes")
    with Classifier(small_classifier, threads=1) as classifier:
        predictions = classifier.predict(shaded_images)
    for i, (image, best_first) in enumerate(zip(shaded_images, predictions)):
        class_folder = folder / best_first[0].wnid
        class_folder.mkdir(exist_ok=True)
        image.save(class_folder / f"{i:03}.png")
    return folder


@pytest.fixture
def class_folders(predicted_class_folders: Path, tmp_path: Path) -> Path:
    """A copy of `predicted_class_folders` that a test may change."""
    return Path(shutil.copytree(predicted_class_folders, tmp_path / "val"))
