"""The same command with more epochs continues a run, finished or not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.recorded_progress import RecordedProgress
from tinyvit.distill.logits.store import Store
from tinyvit.distill.training import trainer
from tinyvit.distill.training.presets import PRESETS
from tinyvit.distill.training.request import TrainingRequest
from tinyvit.distill.training.toml_files import parse_toml
from tinyvit.distill.training.train import train_student
from tinyvit.errors import RequestError

CONFIG = replace(
    PRESETS["finetune-1k"],
    epochs=1,
    batch=4,
    lr=1e-3,
    min_lr=1e-5,
    warmup_epochs=0,
    precision="float32",
)


def compute_rate(step: int, epochs: int) -> float:
    """Return the rate of a step, from 0: a cosine of 3 steps per epoch, for 4 of 512 images."""
    share = (1 + math.cos(math.pi * max(step - 1, 0) / (3 * epochs))) / 2
    return 4 / 512 * (1e-5 + (1e-3 - 1e-5) * share)


def test_a_finished_run_continues_with_more_epochs(
    image_folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has two epochs, so its third epoch is the first one again."""
    real = trainer.TrainingRun.step
    rates: dict[int, float] = {}
    stop: int | None = None

    def record(run: trainer.TrainingRun, parts: object, rate: float) -> float:
        if run.state.step == stop:
            raise KeyboardInterrupt
        rates[run.state.step] = rate
        return real(run, parts, rate)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer.TrainingRun, "step", record)

    def train(name: str, epochs: int) -> RecordedProgress:
        progress = RecordedProgress()
        config = replace(CONFIG, epochs=epochs)
        request = TrainingRequest(
            image_folder,
            tmp_path / name,
            config,
            student="tiny_vit_5m_224",
            logits=store.folder,
            img_size=32,
            workers=0,
            val_data=image_folder,
        )
        train_student(request, progress)
        return progress

    train("whole", 1)
    assert rates == pytest.approx({step: compute_rate(step, 1) for step in range(3)})
    rates.clear()
    progress = train("whole", 3)
    assert rates == pytest.approx({step: compute_rate(step, 3) for step in range(3, 9)})
    position = progress.messages.index("resuming after step 3 of 9")
    assert progress.messages[position + 1] == (
        "the run now has 3 epochs, so the learning rate continues on the longer schedule: it was "
        f"{compute_rate(2, 1):.2g} after epoch 1, and is {compute_rate(3, 3):.2g} now"
    )
    tables = parse_toml((tmp_path / "whole" / "run.toml").read_text())
    assert tables["training"]["epochs"] == 3
    assert tables["run"]["store"]["epochs"] == 2
    # A run is not shortened.
    with pytest.raises(
        RequestError, match=r"a different run, with another value of training\.epochs: use -o"
    ):
        train("whole", 2)
    # An interruption changes nothing, and the message about the rate is not repeated.
    train("run", 1)
    stop = 7
    with pytest.raises(KeyboardInterrupt):
        train("run", 3)
    stop = None
    progress = train("run", 3)
    assert not any("longer schedule" in message for message in progress.messages)
    for name in ("best.safetensors", "last.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
