"""Training accepts every image size that the exporter takes, and the result has this size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.distill_data import write_class_folders
from tinyvit import Classifier
from tinyvit.distill.training.presets import PRESETS
from tinyvit.distill.training.request import TrainingRequest
from tinyvit.distill.training.train import train_student
from tinyvit.errors import RequestError
from tinyvit.nn.checkpoints.loading import load_checkpoint

CONFIG = replace(
    PRESETS["transfer"], epochs=1, batch=3, warmup_epochs=0, freeze="backbone", precision="float32"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with two images each, of which one is for validation."""
    return write_class_folders(tmp_path_factory.mktemp("data"), images_per_class=2)


def train(data: Path, output: Path, size: int) -> Path:
    """Train the packaged demo for one step."""
    return train_student(
        TrainingRequest(data, output, CONFIG, init=Path("demo"), img_size=size, workers=0)
    )


@pytest.mark.parametrize("size", [160, 288])
def test_the_checkpoint_has_the_size_of_the_training(data: Path, tmp_path: Path, size: int) -> None:
    checkpoint = load_checkpoint(train(data, tmp_path / "run", size))
    assert (checkpoint.img_size, checkpoint.preprocess.size) == (size, size)
    # The windows are in proportion to the size, so nothing is padded when it is exported.
    assert checkpoint.window_sizes == (size // 32, size // 32, size // 16, size // 32)
    assert checkpoint.describe_windows() is None


@pytest.mark.slow
@pytest.mark.parametrize("size", [160, 288])
def test_the_checkpoint_is_exported_at_its_size(data: Path, tmp_path: Path, size: int) -> None:
    pytest.importorskip("onnx")
    from tinyvit.export import ExportConfig, export

    checkpoint = train(data, tmp_path / "run", size)
    artifact = export(ExportConfig(checkpoint=checkpoint, output_path=tmp_path / "model.onnx"))
    classifier = Classifier(artifact.path)
    assert artifact.manifest.preprocess.size == size
    assert len(classifier.labels) == 3


@pytest.mark.parametrize(
    ("size", "remedy"),
    [
        (16, "use a multiple of 32, such as 32 or 64"),
        (100, "use a multiple of 32, such as 96 or 128"),
        (1056, "use a multiple of 32, such as 1024"),
    ],
)
def test_other_sizes_are_refused_before_training(
    data: Path, tmp_path: Path, size: int, remedy: str
) -> None:
    with pytest.raises(
        RequestError, match=f"^TinyViT cannot be trained at {size} pixels: {remedy}$"
    ):
        train(data, tmp_path / "run", size)
    assert not (tmp_path / "run" / "run.toml").exists()
