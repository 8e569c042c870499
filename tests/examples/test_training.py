"""The training examples, from end to end on a few pictures; their figures are made by hand (docs/training.md)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def few(shared: Path, tmp_path: Path) -> Path:
    """A few pictures of each of ten classes."""
    for split, count in (("train", 12), ("val", 7)):
        for folder in sorted((shared / "data" / "tiny-imagenet-10" / split).iterdir()):
            there = tmp_path / "data" / split / folder.name
            there.mkdir(parents=True)
            for picture in sorted(folder.rglob("*.JPEG"))[:count]:
                shutil.copy(picture, there)
    return tmp_path / "data"


def run(script: Path, *argv: object) -> subprocess.CompletedProcess[str]:
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(Path.home())}
    return subprocess.run([script, *map(str, argv)], capture_output=True, text=True, env=env)


def test_the_demo_is_trained_exported_and_verified(few: Path, tmp_path: Path) -> None:
    pytest.importorskip(
        "efficientnet_lite_pytorch",
        reason="the demo's teacher comes from PyPI; see examples/train-demo",
    )
    done = run(EXAMPLES / "train-demo" / "train_demo.sh", few, tmp_path / "out", "quick")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "out" / "demo.int8.onnx").is_file()
    assert "top-1" in done.stdout


def test_transfer_is_measured_beside_learning_from_nothing(few: Path, tmp_path: Path) -> None:
    script = tmp_path / "transfer.sh"
    script.write_text(
        (EXAMPLES / "transfer" / "transfer.sh")
        .read_text()
        .replace("--epochs 20", "--epochs 2")
        .replace("size 128", "size 64")
    )
    script.chmod(0o755)
    done = run(script, few, tmp_path / "out")
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"transfer \d+\.\d%, from nothing \d+\.\d%: [+-]\d+\.\d points", done.stdout)
