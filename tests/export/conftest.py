"""Fixtures for the export tests: a traced network, artifacts, and images for calibration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.image_files import save_crops


@pytest.fixture(scope="session")
def demo_source() -> Any:
    """The SourceNetwork (folded and traced network) of the demo model at 64 pixels."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from tinyvit.export import ExportConfig
    from tinyvit.export.plan import ExportPlan
    from tinyvit.export.source_network import load_source_network
    from tinyvit.progress import NullProgress

    config = ExportConfig(model="demo", img_size=64, windows="scaled")
    plan = ExportPlan(config, artifacts=(), labels=None)
    return load_source_network(plan, NullProgress())


@pytest.fixture
def traced_demo(demo_source: Any) -> Iterator[None]:
    """Make the exports of a test quick: they reuse `demo_source`, and time in one round only."""
    from tests.helpers.exports import reuse_network, shorten_timing

    with reuse_network(demo_source), shorten_timing():
        yield


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
    from tests.helpers.exports import shorten_timing
    from tinyvit.export import ExportConfig, export_all

    artifacts: dict[str, dict[str, Any]] = {}
    for stage in ("normalize", "full"):
        config = ExportConfig(
            model="demo",
            targets=("onnx", "openvino"),
            preprocess=stage,
            output=tmp_path_factory.mktemp(stage),
        )
        with shorten_timing():
            report = export_all(config)
        artifacts[stage] = {artifact.manifest.target: artifact for artifact in report.artifacts}
    return artifacts
