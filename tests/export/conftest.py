"""Fixtures of the export tests: traced networks, shared artifacts, and images to preprocess."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.helpers.photographs import save_photograph_crops
from tinyvit.preprocess import Preprocess

Pixels = npt.NDArray[np.uint8]

LANDSCAPE = ((300, 400), (69, 71), (1, 300), (1, 5000))
PORTRAIT = ((400, 300), (97, 96), (500, 61), (160, 10), (161, 10), (1000, 9), (300, 1), (5000, 1))
KINDS = (
    Preprocess(64, 68),
    Preprocess(224, 235),
    Preprocess(64, 73, interpolation="bilinear"),
    Preprocess(64, 64),
    Preprocess(96, 96, "squash"),
    Preprocess(96, 96, "squash", "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
)


@pytest.fixture(scope="session")
def demo_network() -> Any:
    """The SourceNetwork of the demo model at 64 pixels."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from tinyvit.export import ExportConfig
    from tinyvit.export.plan import ExportPlan
    from tinyvit.export.source_network import load_source_network
    from tinyvit.progress import NullProgress

    plan = ExportPlan(ExportConfig(model="demo", img_size=64), artifacts=(), labels=None)
    return load_source_network(plan, NullProgress())


@pytest.fixture
def traced_demo(demo_network: Any) -> Iterator[None]:
    """Exports of a test reuse the demo model that is traced at 64 pixels, and time little."""
    from tests.helpers.exports import reused_network, short_timing

    with reused_network(demo_network), short_timing():
        yield


@pytest.fixture(scope="session")
def crops(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 120 crops of the two example photographs."""
    folder = tmp_path_factory.mktemp("crops")
    save_photograph_crops(images, folder)
    return folder


@pytest.fixture(scope="session")
def preprocessing_artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Stage -> target name -> ExportedArtifact of the demo model at 224 pixels."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    pytest.importorskip("openvino")
    from tests.helpers.exports import short_timing
    from tinyvit.export import ExportConfig, export_all

    artifacts: dict[str, dict[str, Any]] = {}
    for stage in ("normalize", "full"):
        config = ExportConfig(
            model="demo",
            targets=("onnx", "openvino"),
            preprocess=stage,
            output=tmp_path_factory.mktemp(stage),
        )
        with short_timing():
            report = export_all(config)
        artifacts[stage] = {artifact.manifest.target: artifact for artifact in report.artifacts}
    return artifacts


@pytest.fixture(params=KINDS, ids=lambda p: f"{p.size}-{p.resize}-{p.crop}-{p.interpolation}")
def preprocess(request: pytest.FixtureRequest) -> Preprocess:
    """Each kind of preprocessing that a file can hold."""
    kind: Preprocess = request.param
    return kind


@pytest.fixture(scope="session")
def sizes() -> tuple[tuple[int, int], ...]:
    """(height, width) of pictures that are hard to resize."""
    return (*LANDSCAPE, *PORTRAIT, (375, 500), (68, 68), (10, 7), (1, 1))


@pytest.fixture(scope="session")
def picture() -> Callable[[int, int], Pixels]:
    """(height, width) -> a picture: left half smooth, right half noise, which shows every rounding."""

    def make(height: int, width: int) -> Pixels:
        pixels = np.random.default_rng(height * 10007 + width).integers(
            0, 256, (height, width, 3), np.uint8
        )
        pixels[:, : width // 2] = np.linspace(0, 255, width // 2, dtype=np.uint8)[:, None]
        return pixels

    return make


@pytest.fixture(scope="session")
def levels() -> Callable[[npt.NDArray[Any], Pixels, Preprocess], npt.NDArray[Any]]:
    """(network's input, picture, preprocess) -> how far apart, in levels of 0 to 255, that input and the host's are."""

    def compare(
        answer: npt.NDArray[Any], pixels: Pixels, preprocess: Preprocess
    ) -> npt.NDArray[Any]:
        std, mean = np.asarray(preprocess.std), np.asarray(preprocess.mean)
        seen = (np.moveaxis(answer[0].astype(float), 0, -1) * std + mean) * 255
        assert np.abs(seen - np.rint(seen)).max() < 1e-3, "whole levels reach the network"
        return np.abs(np.rint(seen) - preprocess.resize_and_crop(Image.fromarray(pixels)))

    return compare


@pytest.fixture
def photographs(shared: Path) -> Iterator[tuple[str, Pixels]]:
    """(name, pixels) of every tenth real photograph."""
    return (
        (path.name, np.asarray(Image.open(path).convert("RGB")))
        for path in sorted((shared / "data" / "imagenet-sample-250").iterdir())[::10]
    )
