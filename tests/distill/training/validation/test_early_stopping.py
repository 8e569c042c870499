"""A run with a patience ends when its accuracy does not improve, also after an interruption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.recorded_progress import RecordedProgress
from tinyvit.distill.training import trainer
from tinyvit.distill.training.presets import PRESETS
from tinyvit.distill.training.request import TrainingRequest
from tinyvit.distill.training.run.history import EpochSummary
from tinyvit.distill.training.train import train_student
from tinyvit.distill.training.validation.early_stopping import (
    count_epochs_since_best,
    is_out_of_patience,
)

CONFIG = replace(
    PRESETS["finetune-1k"],
    # Such steps do not change the accuracy, so the first epoch is the best one.
    lr=1e-12,
    warmup_lr=0.0,
    min_lr=0.0,
    warmup_epochs=0,
    epochs=9,
    batch=12,
    patience=2,
    precision="float32",
)


@pytest.mark.parametrize(
    ("accuracies", "count"),
    [
        ([], 0),
        ([50.0], 0),
        ([50.0, 60.0], 0),
        ([50.0, 60.0, 60.0], 1),
        ([50.0, 60.0, 55.0, 60.0, 59.0], 3),
        ([0.0, 0.0], 1),
        ([None, None, None], 0),
    ],
)
def test_only_a_higher_accuracy_is_better(accuracies: list[float | None], count: int) -> None:
    history = [EpochSummary(1.0, 1e-3, accuracy, 1.0) for accuracy in accuracies]
    assert count_epochs_since_best(history) == count
    assert is_out_of_patience(history, count + 1) is False
    assert is_out_of_patience(history, count) is (count > 0)
    assert is_out_of_patience(history, 0) is False


def test_a_run_stops_and_continues_with_more_patience(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    request = TrainingRequest(
        image_folder,
        folder,
        CONFIG,
        student="tiny_vit_5m_224",
        img_size=32,
        workers=0,
        val_data=image_folder,
    )
    real, stop = trainer.TrainingRun.step, 2

    def interrupt(run: trainer.TrainingRun, parts: object, rate: float) -> float:
        if run.state.step == stop:
            raise KeyboardInterrupt
        return real(run, parts, rate)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer.TrainingRun, "step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_student(request)
    # The two epochs before the interruption count.
    stop = -1
    progress = RecordedProgress()
    train_student(request, progress)
    assert "resuming after step 2 of 9" in progress.messages
    reports = [message for message in progress.messages if message.startswith("epoch ")]
    assert [report.partition(":")[0] for report in reports] == ["epoch 3 of 9"]
    result = "best.safetensors is the network after epoch 1, which has the best top-1 accuracy"
    (message,) = [message for message in progress.messages if message.startswith(result)]
    assert message.endswith(
        "; the run stopped after epoch 3 of 9, because --patience 2 allows no more epochs without "
        "a better accuracy"
    )
    # The same command trains no further, and one with more patience trains one more epoch.
    stop = 3
    train_student(request)
    stop = -1
    progress = RecordedProgress()
    train_student(replace(request, config=replace(CONFIG, patience=3)), progress)
    assert any(
        "the run stopped after epoch 4 of 9, because --patience 3" in message
        for message in progress.messages
    )
