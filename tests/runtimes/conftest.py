"""Small classifiers and images, written as files."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.small_classifiers import ArtifactBuilder, build_classifier

ENGINES_AND_SUFFIXES = [("onnxruntime", ".onnx"), ("openvino", ".onnx"), ("openvino", ".xml")]


@pytest.fixture(scope="session")
def build_artifact(tmp_path_factory: pytest.TempPathFactory) -> ArtifactBuilder:
    """A function that builds small classifiers, each kind once. Tests must not change the files."""

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
    """A function like `build_artifact` that returns a copy, which the test may change."""

    def copy(*args: Any, **options: Any) -> Path:
        source = build_artifact(*args, **options)
        for file in source.parent.glob(f"{source.stem}.*"):
            shutil.copy(file, tmp_path)
        return tmp_path / source.name

    return copy


@pytest.fixture(params=ENGINES_AND_SUFFIXES, ids=["onnxruntime", "openvino-onnx", "openvino-ir"])
def engine_and_suffix(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The name of an engine and the suffix of a file that it opens."""
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
