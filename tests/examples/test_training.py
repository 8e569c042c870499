"""The training examples run from beginning to end on a few images.

The accuracies in docs/lab-notes/training.md come from complete runs and are not checked here.
"""

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
IMAGES_PER_CLASS = {"train": 12, "val": 7}


@pytest.fixture
def small_dataset(shared: Path, tmp_path: Path) -> Path:
    """A folder with train/ and val/, each with a few images of ten classes."""
    for split, count in IMAGES_PER_CLASS.items():
        for source in sorted((shared / "data" / "imagenette" / split).iterdir()):
            folder = tmp_path / "data" / split / source.name
            folder.mkdir(parents=True)
            for image in sorted(source.rglob("*.JPEG"))[:count]:
                shutil.copy(image, folder)
    return tmp_path / "data"


def run_script(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a shell script with the commands of this Python's environment."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(Path.home()),
    }
    return subprocess.run(
        [script, *map(str, arguments)], capture_output=True, text=True, env=environment
    )


def test_the_demo_is_trained_exported_and_verified(small_dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip(
        "efficientnet_lite_pytorch",
        reason="PyPI provides the demo's teacher; see examples/train-demo",
    )
    script = EXAMPLES / "train-demo" / "train_demo.sh"
    result = run_script(script, small_dataset, tmp_path / "out", "quick")
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / "out" / "demo.int8.onnx").is_file()
    assert "top-1" in result.stdout


def test_transfer_is_compared_with_training_from_random_weights(
    small_dataset: Path, tmp_path: Path
) -> None:
    text = (EXAMPLES / "transfer" / "transfer.sh").read_text()
    script = tmp_path / "transfer.sh"
    script.write_text(text.replace("--epochs 20", "--epochs 2").replace("size 128", "size 64"))
    script.chmod(0o755)
    result = run_script(script, small_dataset, tmp_path / "out")
    assert result.returncode == 0, result.stderr[-2000:]
    assert re.search(
        r"transfer \d+\.\d%, from random weights \d+\.\d%: [+-]\d+\.\d points", result.stdout
    )
