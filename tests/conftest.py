"""What tests share: the packaged demo model exported once a session, and the folder of real photographs where there is one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

# Before torch is imported: beside any other load its threads wait for each other, and a test takes ten times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (golden logits and photographs), which a clone does not have")
    return SHARED


@pytest.fixture(scope="session")
def images() -> Path:
    return ROOT / "examples" / "images"


@pytest.fixture(scope="session")
def pieces(images: Path) -> Callable[[Path, int], list[Path]]:
    """(folder, count) -> so many cuts of each of the two photographs, as files in the folder: enough to calibrate int8 on."""

    def cut(folder: Path, count: int) -> list[Path]:
        rng, made = np.random.default_rng(0), []
        for name in ("cat.jpg", "coffee.jpg"):
            with Image.open(images / name) as opened:
                for i, (left, top) in enumerate(rng.random((count, 2))):
                    x, y = int(left * (opened.width - 160)), int(top * (opened.height - 160))
                    made.append(folder / f"{i}-{name}.png")
                    opened.crop((x, y, x + 160, y + 160)).save(made[-1])
        return made

    return cut


@pytest.fixture(scope="session")
def script() -> Callable[[Path], ModuleType]:
    """(path) -> a script that is in no package, as a module."""

    def load(path: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def fill(shared: Path, script: Callable[[Path], ModuleType]) -> ModuleType:
    """The formulas behind the golden logits."""
    return script(shared / "golden" / "fill.py")


@pytest.fixture(scope="session")
def golden_state(shared: Path, fill: ModuleType) -> Callable[..., dict[str, Any]]:
    """(variant, layout) -> a state dict by the formula of ../shared/golden; with as_golden, the one behind its logits.

    The paper's code caches the expanded attention biases in eval(). The golden run of its layout called that before it
    loaded the weights, so those logits (all five variants, to 1e-5) are of zero biases. See docs/decisions.md.
    """
    torch = pytest.importorskip("torch")
    import json

    def make(variant: str, layout: str, as_golden: bool = False) -> dict[str, Any]:
        keys = json.loads((shared / "golden" / f"{variant}.{layout}.keys.json").read_text())
        weights = {
            key: shape
            for key, shape in keys.items()
            if not key.endswith(("num_batches_tracked", "attention_bias_idxs"))
        }
        state = {key: torch.from_numpy(fill.weights(key, shape)) for key, shape in weights.items()}
        if as_golden and layout == "official":
            state.update(
                {
                    key: torch.zeros_like(value)
                    for key, value in state.items()
                    if key.endswith("attention_biases")
                }
            )
        return state

    return make


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo model at 224 pixels as {"onnx": demo.onnx, "openvino": demo.xml}.

    The second file is there if OpenVINO is installed.
    """
    pytest.importorskip("torch")
    from tinyvit.export import ExportConfig, export_all

    folder = tmp_path_factory.mktemp("demo")
    report = export_all(ExportConfig(model="demo", targets=("onnx", "openvino"), output=folder))
    return {artifact.manifest.target: artifact.path for artifact in report.artifacts}


@pytest.fixture(scope="session")
def demo_64_report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The ExportReport of the demo model at 64 pixels in float32, for all targets."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from tests.helpers.exports import short_timing
    from tinyvit.export import ExportConfig, export_all

    folder = tmp_path_factory.mktemp("demo_64")
    with short_timing():
        return export_all(ExportConfig(model="demo", targets=("all",), img_size=64, output=folder))


@pytest.fixture(scope="session")
def demo_64_artifacts(demo_64_report: Any) -> dict[str, Any]:
    """Target name -> ExportedArtifact of the demo model at 64 pixels, for the installed targets."""
    return {artifact.manifest.target: artifact for artifact in demo_64_report.artifacts}


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the repository holds and nothing else: an earlier build's files would end up in a wheel."""
    folder = tmp_path_factory.mktemp("source")
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if tracked.returncode:
        pytest.skip("needs git, to install what the repository holds and nothing else")
    for name in tracked.stdout.splitlines():
        if (ROOT / name).is_file() and not (ROOT / name).parent.is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder
