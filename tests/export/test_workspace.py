"""Trial artifacts run on PyTorch's threads, divided into streams where the engine has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from tinyvit.export.workspace import _choose_options
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.base import RuntimeOptions


@pytest.fixture(autouse=True)
def thread_count() -> Iterator[int]:
    count = torch.get_num_threads()
    yield count
    torch.set_num_threads(count)


@pytest.mark.parametrize(
    ("threads", "expected"), [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (8, (2, 4))]
)
def test_threads_are_divided_into_streams(
    demo_64_artifacts: dict[str, Any], threads: int, expected: tuple[int, int]
) -> None:
    torch.set_num_threads(threads)
    artifact = read_artifact(demo_64_artifacts["onnx"].path)
    options = _choose_options(artifact.format, artifact.manifest.preprocess)
    assert (options.threads, options.streams) == expected


def test_large_images_have_one_stream(demo_64_artifacts: dict[str, Any]) -> None:
    torch.set_num_threads(2)
    artifact = read_artifact(demo_64_artifacts["onnx"].path)
    large = replace(artifact.manifest.preprocess, size=(512, 640), resize=640)
    options = _choose_options(artifact.format, large)
    assert (options.threads, options.streams) == (2, 1)


def test_engines_without_streams_choose_their_threads(demo_64_artifacts: dict[str, Any]) -> None:
    if "executorch" not in demo_64_artifacts:
        pytest.skip("needs ExecuTorch")
    artifact = read_artifact(demo_64_artifacts["executorch"].path)
    assert _choose_options(artifact.format, artifact.manifest.preprocess) == RuntimeOptions("auto")
