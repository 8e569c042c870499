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
from tinyvit.distill.training.run.toml_files import parse_toml
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


class RecordedRuns:
    """Trains in folders of a test, and records the learning rate of every step.

    Attributes:
        rates: The learning rate of each step since `rates` was cleared.
        stop: Number of the step, from 0, at which the run is interrupted; None for no interruption.
    """

    def __init__(
        self, image_folder: Path, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.rates: dict[int, float] = {}
        self.stop: int | None = None
        self._request = TrainingRequest(
            image_folder,
            folder,
            CONFIG,
            student="tiny_vit_5m_224",
            logits=store.folder,
            img_size=32,
            workers=0,
            val_data=image_folder,
        )
        real = trainer.TrainingRun.step

        def record(run: trainer.TrainingRun, parts: object, rate: float) -> float:
            if run.state.step == self.stop:
                raise KeyboardInterrupt
            self.rates[run.state.step] = rate
            return real(run, parts, rate)  # type: ignore[arg-type]

        monkeypatch.setattr(trainer.TrainingRun, "step", record)

    def train(self, name: str, epochs: int) -> RecordedProgress:
        """Train in a folder for a number of epochs, and return the messages."""
        progress = RecordedProgress()
        config = replace(CONFIG, epochs=epochs)
        output = self._request.output / name
        train_student(replace(self._request, output=output, config=config), progress)
        return progress


@pytest.fixture
def runs(
    image_folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RecordedRuns:
    """Runs in `tmp_path` from a store of two epochs."""
    return RecordedRuns(image_folder, store, tmp_path, monkeypatch)


def test_a_finished_run_continues_with_more_epochs(runs: RecordedRuns, tmp_path: Path) -> None:
    runs.train("run", 1)
    assert runs.rates == pytest.approx({step: compute_rate(step, 1) for step in range(3)})
    runs.rates.clear()
    progress = runs.train("run", 2)
    assert runs.rates == pytest.approx({step: compute_rate(step, 2) for step in range(3, 6)})
    position = progress.messages.index("resuming after step 3 of 6")
    assert progress.messages[position + 1] == (
        "the run now has 2 epochs, so the learning rate continues on the longer schedule: it was "
        f"{compute_rate(2, 1):.2g} after epoch 1, and is {compute_rate(3, 2):.2g} now"
    )
    tables = parse_toml((tmp_path / "run" / "run.toml").read_text())
    assert tables["training"]["epochs"] == 2
    assert tables["run"]["store"]["epochs"] == 2
    # A run is not shortened.
    with pytest.raises(
        RequestError, match=r"a different run, with another value of training\.epochs: use -o"
    ):
        runs.train("run", 1)


@pytest.mark.slow
def test_an_interruption_of_a_longer_run_changes_nothing(
    runs: RecordedRuns, tmp_path: Path
) -> None:
    """The third epoch uses the first one of the store again. The message is not repeated."""
    for name in ("whole", "run"):
        runs.train(name, 1)
    assert any("longer schedule" in message for message in runs.train("whole", 3).messages)
    runs.stop = 7
    with pytest.raises(KeyboardInterrupt):
        runs.train("run", 3)
    runs.stop = None
    assert not any("longer schedule" in message for message in runs.train("run", 3).messages)
    for name in ("best.safetensors", "last.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
