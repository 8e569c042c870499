"""Fixtures of the export tests: a traced network, shared artifacts, and photographs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.image_files import save_crops


@pytest.fixture(scope="session")
def demo_source() -> Any:
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
def traced_demo(demo_source: Any) -> Iterator[None]:
    """Exports of a test reuse the demo model that is traced at 64 pixels, and time little."""
    from tests.helpers.exports import reused_network, short_timing

    with reused_network(demo_source), short_timing():
        yield


@pytest.fixture(scope="session")
def crops(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 120 crops of the two example photographs."""
    folder = tmp_path_factory.mktemp("crops")
    save_crops(images, folder, 60)
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
