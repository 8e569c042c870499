"""Fixtures for the export tests: a traced network, artifacts, and images for calibration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.image_files import save_crops


@pytest.fixture(scope="session")
def demo_source() -> Any:
    """The SourceNetwork (folded and traced network) of the shortened demo model at 64 pixels."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from tests.helpers.exports import shorten_demo
    from tinyvit.export import ExportConfig
    from tinyvit.export.plan import ExportPlan
    from tinyvit.export.source_network import load_source_network
    from tinyvit.progress import NullProgress

    config = ExportConfig(model="demo", img_size=64, windows="scaled")
    plan = ExportPlan(config, artifacts=(), labels=None)
    with shorten_demo():
        return load_source_network(plan, NullProgress())


@pytest.fixture(scope="module", autouse=True)
def _short_exports() -> Iterator[None]:
    """Let the tests export the shortened demo model, with short timing."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from tests.helpers.exports import shorten_demo, shorten_timing

    with shorten_demo(), shorten_timing():
        yield


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The shortened demo model at 224 pixels as {"onnx": demo.onnx, "openvino": demo.xml}.

    The OpenVINO file is missing if OpenVINO is not installed.
    """
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from tests.helpers.exports import shorten_demo, shorten_timing
    from tinyvit.export import ExportConfig, export_all

    folder = tmp_path_factory.mktemp("short_demo")
    config = ExportConfig(model="demo", targets=("onnx", "openvino"), output_path=folder)
    with shorten_demo(), shorten_timing():
        report = export_all(config)
    return {artifact.manifest.target: artifact.path for artifact in report.artifacts}


@pytest.fixture
def traced_demo(demo_source: Any) -> Iterator[None]:
    """Make the exports of a test quick: they reuse `demo_source`, and time in one round only."""
    from tests.helpers.exports import reuse_network, shorten_timing

    with reuse_network(demo_source), shorten_timing():
        yield


@pytest.fixture(scope="session")
def float32_artifacts(demo_source: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Target name -> ExportedArtifact of `demo_source` in float32, for ONNX and OpenVINO."""
    from tests.helpers.exports import reuse_network, shorten_timing
    from tinyvit.export import ExportConfig, export_all

    folder = tmp_path_factory.mktemp("float32")
    config = ExportConfig(
        model="demo", targets=("onnx", "openvino"), img_size=64, output_path=folder
    )
    with reuse_network(demo_source), shorten_timing():
        report = export_all(config)
    return {artifact.manifest.target: artifact for artifact in report.artifacts}


@pytest.fixture(scope="session")
def crops(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 120 crops of the two example photographs."""
    folder = tmp_path_factory.mktemp("crops")
    save_crops(images, folder, count=60)
    return folder


@pytest.fixture(scope="session")
def preprocessing_artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Preprocessing stage ("normalize", "full") -> target name -> ExportedArtifact of the demo."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    pytest.importorskip("openvino")
    from tests.helpers.exports import shorten_demo, shorten_timing
    from tinyvit.export import ExportConfig, export_all

    artifacts: dict[str, dict[str, Any]] = {}
    for stage in ("normalize", "full"):
        config = ExportConfig(
            model="demo",
            targets=("onnx", "openvino"),
            preprocess=stage,
            output_path=tmp_path_factory.mktemp(stage),
        )
        with shorten_demo(), shorten_timing():
            report = export_all(config)
        artifacts[stage] = {artifact.manifest.target: artifact for artifact in report.artifacts}
    return artifacts
