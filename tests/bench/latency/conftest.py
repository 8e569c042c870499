"""A small artifact for latency tests that do not need the demo model."""

from __future__ import annotations

import pytest

from tests.helpers.small_classifiers import build_classifier


@pytest.fixture(scope="session")
def small_classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of an .onnx file that takes any number of 32 x 32 images and runs in microseconds."""
    folder = tmp_path_factory.mktemp("small_classifier")
    return str(build_classifier(folder, ".onnx", "host", batch="batch", with_manifest=True))
