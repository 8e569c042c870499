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
from PIL import Image

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


@pytest.fixture
def prepared_images(small_dataset: Path, images: Path, tmp_path: Path) -> Path:
    """What prepare.py makes of the small data set, two more classes and a photograph."""
    for wnid in ("n02123045", "n07920052"):
        shutil.copytree(next((small_dataset / "train").iterdir()), tmp_path / "tiny" / wnid)
    (tmp_path / "photographs").mkdir()
    shutil.copy(images / "cat.jpg", tmp_path / "photographs" / "n02124075_Egyptian_cat.JPEG")
    run_prepare(
        *("--imagenette", small_dataset / "train", "--tiny-imagenet", tmp_path / "tiny"),
        *("--photographs", tmp_path / "photographs", "-o", tmp_path / "prepared"),
    )
    return tmp_path / "prepared"


def run_prepare(*arguments: object) -> None:
    script = EXAMPLES / "train-demo" / "prepare.py"
    subprocess.run([sys.executable, script, *map(str, arguments)], check=True)


def run_script(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a shell script with the commands of this Python's environment."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(Path.home()),
    }
    return subprocess.run(
        [script, *map(str, arguments)], capture_output=True, text=True, env=environment
    )


def test_images_are_prepared(prepared_images: Path) -> None:
    tench, tabby, egyptian_cat = "n01440764", "n02123045", "n02124075"
    last = prepared_images / "last"
    assert len(list((prepared_images / "train" / tench).iterdir())) == 11
    assert len(list((prepared_images / "val" / tench).iterdir())) == 1
    assert len(list((last / "val" / tench).iterdir())) == 1
    small_copies = sorted((last / "train" / tench).glob("small_*.png"))
    assert [Image.open(copy).size for copy in small_copies] == [(64, 64)] * 2
    assert not list((last / "train" / tabby).glob("small_*"))
    assert len(list((last / "train" / tabby).glob(f"copy*_{egyptian_cat}_Egyptian_cat.JPEG"))) == 60
    assert len(list((prepared_images / "train" / egyptian_cat).iterdir())) == 4
    assert not (last / "train" / egyptian_cat).exists()


def test_the_demo_is_trained_exported_and_verified(prepared_images: Path, tmp_path: Path) -> None:
    pytest.importorskip(
        "efficientnet_lite_pytorch",
        reason="PyPI provides the demo's teacher; see examples/train-demo",
    )
    script = EXAMPLES / "train-demo" / "train_demo.sh"
    result = run_script(script, prepared_images, tmp_path / "out", "quick")
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / "out" / "demo.int8.onnx").is_file()
    assert "top-1" in result.stdout


def test_transfer_is_compared_with_training_from_random_weights(
    small_dataset: Path, tmp_path: Path
) -> None:
    text = (EXAMPLES / "transfer" / "transfer.sh").read_text()
    script = tmp_path / "transfer.sh"
    script.write_text(text.replace("--epochs 40", "--epochs 2").replace("size 128", "size 64"))
    script.chmod(0o755)
    result = run_script(script, small_dataset, tmp_path / "out")
    assert result.returncode == 0, result.stderr[-2000:]
    assert re.search(
        r"transfer \d+\.\d%, from random weights \d+\.\d%: [+-]\d+\.\d points", result.stdout
    )
