"""Small classifiers and images as files."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.small_classifiers import ArtifactBuilder, build_classifier

ENGINE_AND_SUFFIX = [("onnxruntime", ".onnx"), ("openvino", ".onnx"), ("openvino", ".xml")]


@pytest.fixture(scope="session")
def build_artifact(tmp_path_factory: pytest.TempPathFactory) -> ArtifactBuilder:
    """Build classifiers, each kind once. Tests must not change the files."""

    @cache
    def build(suffix: str, embedded_preprocessing: str, batch: int | str, manifest: bool) -> Path:
        folder = tmp_path_factory.mktemp("artifact")
        return build_classifier(folder, suffix, embedded_preprocessing, batch, manifest)

    def build_with_defaults(
        suffix: str = ".onnx",
        embedded_preprocessing: str = "host",
        batch: int | str = "batch",
        manifest: bool = True,
    ) -> Path:
        return build(suffix, embedded_preprocessing, batch, manifest)

    return build_with_defaults


@pytest.fixture
def copy_artifact(build_artifact: ArtifactBuilder, tmp_path: Path) -> ArtifactBuilder:
    """Build classifiers as `build_artifact` does, and copy them so that a test may change them."""

    def copy(*args: Any, **options: Any) -> Path:
        source = build_artifact(*args, **options)
        for file in source.parent.glob(f"{source.stem}.*"):
            shutil.copy(file, tmp_path)
        return tmp_path / source.name

    return copy


@pytest.fixture(params=ENGINE_AND_SUFFIX, ids=["onnxruntime", "openvino-onnx", "openvino-ir"])
def engine_and_suffix(request: pytest.FixtureRequest) -> tuple[str, str]:
    pytest.importorskip(request.param[0], reason="an optional engine")
    return request.param


@pytest.fixture
def image_files(tmp_path: Path) -> list[Path]:
    """Nine image files of different sizes and contents, alone in a folder."""
    folder = tmp_path / "images"
    folder.mkdir()
    paths = [folder / f"{i}.png" for i in range(9)]
    for i, path in enumerate(paths):
        pixels = np.random.default_rng(i).integers(0, 30 * i + 10, (40 + i, 50 - i, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return paths
