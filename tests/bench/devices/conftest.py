"""Artifacts and images for tests of devices that do not need the size of the demo model."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.small_classifiers import build_classifier
from tinyvit.runtimes.classifier import Classifier


@pytest.fixture(scope="session")
def small_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .onnx file that takes 32 x 32 images and runs in microseconds."""
    folder = tmp_path_factory.mktemp("small_classifier")
    return build_classifier(folder, ".onnx", "host", "batch", with_manifest=True)


@pytest.fixture(scope="session")
def small_openvino_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network as an OpenVINO IR, which consists of two files."""
    folder = tmp_path_factory.mktemp("small_openvino_classifier")
    return build_classifier(folder, ".xml", "host", "batch", with_manifest=True)


@pytest.fixture(scope="session")
def predicted_class_folders(
    small_classifier: Path,
    shaded_images: list[Image.Image],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Class folders in which the small classifier classifies every image correctly."""
    folder = tmp_path_factory.mktemp("classes")
    with Classifier(small_classifier, threads=1) as classifier:
        predictions = classifier.predict(shaded_images)
    for i, (image, ranked) in enumerate(zip(shaded_images, predictions)):
        class_folder = folder / ranked[0].wnid
        class_folder.mkdir(exist_ok=True)
        image.save(class_folder / f"{i:03}.png")
    return folder
