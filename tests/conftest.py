"""Fixtures for all tests: example images, the exported demo model, a copy of the repository."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

# This must be set before torch is imported. If other programs use the cores, several threads of
# torch wait for each other, and a test takes ten times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell without job control starts background commands (`pytest &`) with SIGINT ignored, and the
# processes that tests start and interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden logits and photographs beside the repository, which a clone lacks."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (golden logits and photographs), which a clone does not have")
    return SHARED


@pytest.fixture(scope="session")
def images() -> Path:
    """The folder of the two example photographs, cat.jpg and coffee.jpg."""
    return ROOT / "examples" / "images"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo model at 224 pixels as {"onnx": demo.onnx, "openvino": demo.xml}.

    The OpenVINO file is missing if OpenVINO is not installed.
    """
    pytest.importorskip("torch")
    from tinyvit.export import ExportConfig, export_all

    folder = tmp_path_factory.mktemp("demo")
    report = export_all(
        ExportConfig(model="demo", targets=("onnx", "openvino"), output_path=folder)
    )
    return {artifact.manifest.target: artifact.path for artifact in report.artifacts}


@pytest.fixture(scope="session")
def demo_64_report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The ExportReport of the shortened demo model at 64 pixels for all targets.

    The precision is float32, or float16 for targets that do not offer float32.
    """
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from tests.helpers.exports import shorten_demo, shorten_timing
    from tinyvit.export import ExportConfig, ExportReport, export_all
    from tinyvit.export.targets import get_target, target_names

    names = target_names()
    float16_names = [name for name in names if "float32" in get_target(name).unsupported]
    config = ExportConfig(
        model="demo",
        targets=tuple(name for name in names if name not in float16_names),
        img_size=64,
        windows="scaled",
        output_path=tmp_path_factory.mktemp("demo_64"),
    )
    with shorten_demo(), shorten_timing():
        float32 = export_all(config)
        if not float16_names:
            return float32
        float16 = export_all(replace(config, targets=tuple(float16_names), float16=True))
    return ExportReport(float32.artifacts + float16.artifacts, float32.failures + float16.failures)


@pytest.fixture(scope="session")
def demo_64_artifacts(demo_64_report: Any) -> dict[str, Any]:
    """Target name -> ExportedArtifact of `demo_64_report`, for the installed targets."""
    return {artifact.manifest.target: artifact for artifact in demo_64_report.artifacts}


@pytest.fixture(scope="session")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository without the files that git ignores.

    The repository itself may contain files of an earlier build, which would end up in a wheel.
    """
    folder = tmp_path_factory.mktemp("source_tree")
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listing.returncode:
        pytest.skip("needs git, to install only what the repository contains")
    for name in listing.stdout.splitlines():
        if (ROOT / name).is_file() and not (ROOT / name).parent.is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder
