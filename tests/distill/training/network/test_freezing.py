"""With a frozen backbone, only the classifier changes, and a later run can train everything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.recorded_progress import RecordedProgress
from tinyvit.distill.cli import main
from tinyvit.distill.training import trainer
from tinyvit.distill.training.batches import memory
from tinyvit.distill.training.batches.memory import count_images_in_memory
from tinyvit.distill.training.config import TrainingConfig
from tinyvit.distill.training.device import ComputeDevice
from tinyvit.distill.training.network.drop_path import add_drop_path
from tinyvit.distill.training.network.freezing import freeze_weights
from tinyvit.distill.training.network.student import make_student, save_checkpoint
from tinyvit.distill.training.presets import PRESETS
from tinyvit.distill.training.request import TrainingRequest
from tinyvit.distill.training.train import train_student
from tinyvit.errors import RequestError
from tinyvit.labels import Label
from tinyvit.nn.checkpoints.loading import load_checkpoint

CONFIG = replace(
    PRESETS["transfer"],
    epochs=1,
    batch=3,
    lr=0.1,
    warmup_epochs=0,
    drop_path=0.5,
    precision="float32",
    freeze="backbone",
)
CLASSIFIER = {"head.fc.weight", "head.fc.bias"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained student of two other classes."""
    labels = (Label("a"), Label("b"))
    student = make_student("tiny_vit_5m_224", None, labels, 2, 32, seed=3)
    path = tmp_path_factory.mktemp("checkpoint") / "init.safetensors"
    save_checkpoint(path, student.model.state_dict(), labels, student.preprocess, "mit")
    return path


def find_changes(before: Path, after: Path) -> set[str]:
    """Return the names of the tensors that differ between two checkpoints."""
    old, new = load_checkpoint(before).state_dict, load_checkpoint(after).state_dict
    assert old.keys() == new.keys()
    return {name for name in old if not torch.equal(old[name], new[name])}


def test_a_linear_probe_and_then_all_weights(
    image_folder: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trainer.TrainingRun.step
    gradients: set[str] = set()

    def record(run: trainer.TrainingRun, parts: object, rate: float) -> float:
        loss = real(run, parts, rate)  # type: ignore[arg-type]
        parameters = run.model.named_parameters()
        gradients.update(name for name, value in parameters if value.grad is not None)
        return loss

    monkeypatch.setattr(trainer.TrainingRun, "step", record)
    probe, final = tmp_path / "probe", tmp_path / "final"
    train_student(TrainingRequest(image_folder, probe, CONFIG, init=checkpoint, workers=0))
    assert gradients == CLASSIFIER
    assert find_changes(checkpoint, probe / "last.safetensors") == CLASSIFIER
    # The saved state has the moments of the classifier only, and can be continued.
    longer = replace(CONFIG, epochs=2)
    train_student(TrainingRequest(image_folder, probe, longer, init=checkpoint, workers=0))
    assert find_changes(checkpoint, probe / "last.safetensors") == CLASSIFIER
    best = probe / "best.safetensors"
    config = replace(CONFIG, freeze="none", lr=4e-3)
    progress = RecordedProgress()
    train_student(TrainingRequest(image_folder, final, config, init=best, workers=0), progress)
    assert progress.messages[1] == (
        "the result has 3 classes; the classifier starts with the checkpoint's weights"
    )
    changes = find_changes(best, final / "last.safetensors")
    assert {"patch_embed.conv1.conv.weight", "stages.0.blocks.0.conv1.bn.running_mean"} < changes
    assert changes > CLASSIFIER
    # Both runs hold out the same images.
    lists = [(folder / "validation_images.txt").read_bytes() for folder in (probe, final)]
    assert lists[0] == lists[1]


@pytest.mark.parametrize("settings", [CONFIG, replace(CONFIG, freeze="none")])
def test_measuring_memory_leaves_gradients_as_they_were(
    settings: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a backward pass through the backbone, more images fit; but not any number."""
    monkeypatch.setattr(memory, "measure_free_bytes", lambda _: 2**30)
    model = make_student("tiny_vit_5m_224", None, None, 3, 64, seed=0).model
    freeze_weights(model, settings)
    before = [parameter.requires_grad for parameter in model.parameters()]
    device = ComputeDevice("cpu", uses_bfloat16=False)
    count = count_images_in_memory(model, add_drop_path(model, 0.0), 64, device, False)
    assert [parameter.requires_grad for parameter in model.parameters()] == before
    if settings.freeze == "none":
        assert 50 < count < 110
    else:
        # The stage of 16 x 16 tokens with 256 hidden channels needs at least 0.25 MiB per tensor.
        assert 300 < count < 0.6 * 2**30 / 2**18


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init": None}, "--freeze backbone was given without --init, so that all weights but"),
        ({"qat": ""}, "--freeze backbone and --qat were both given, but weights have to adapt"),
    ],
)
def test_impossible_combinations_are_refused(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    request = TrainingRequest(
        tmp_path, tmp_path / "run", CONFIG, student="tiny_vit_5m_224", init=Path("none")
    )
    with pytest.raises(RequestError, match=message):
        train_student(replace(request, **changes))  # type: ignore[arg-type]


def test_the_option_is_read(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "--student", "tiny_vit_5m_224", "--freeze", "backbone"]
    assert main([*arguments, "--data", str(image_folder), "-o", str(tmp_path / "run")]) == 1
    assert "--freeze backbone was given without --init" in capsys.readouterr().err
