"""A saved state that cannot be restored is explained, without the advice to delete a good one."""

from __future__ import annotations

import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from tinyvit.checkpoint_paths import RUN_FILE
from tinyvit.distill.training.config import TrainingConfig
from tinyvit.distill.training.run import folder as run_folder
from tinyvit.distill.training.run.folder import (
    STATE_FILE,
    TrainingState,
    load_state,
    open_run_folder,
    save_state,
)
from tinyvit.errors import RequestError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder with a saved state."""
    save_state(tmp_path, TrainingState(step=3), {"model": torch.nn.Linear(2, 2)})
    return tmp_path


def test_a_saved_state_is_restored(folder: Path) -> None:
    state = load_state(folder, {"model": torch.nn.Linear(2, 2)}, "cpu", 5, 2)
    assert state == TrainingState(step=3)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_too_little_memory_is_not_called_damage(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def load(*_arguments: Any, **_options: Any) -> None:
        raise error

    monkeypatch.setattr(run_folder, "read_state_file", load)
    with pytest.raises(RequestError) as caught:
        load_state(folder, {}, "cuda:0", 5, 2)
    assert caught.value.cause.endswith("state.pt does not fit into the free memory of cuda:0")
    assert "--overwrite" not in caught.value.remedy


def test_a_state_that_cannot_be_opened_is_not_called_damaged(folder: Path) -> None:
    (folder / "state.pt").unlink()
    (folder / "state.pt").mkdir()
    with pytest.raises(RequestError, match=r"state\.pt cannot be read \(") as caught:
        load_state(folder, {}, "cpu", 5, 2)
    assert "--overwrite" not in caught.value.remedy


def test_a_truncated_state_is_damaged(folder: Path) -> None:
    path = folder / "state.pt"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RequestError, match=r"state\.pt is damaged .*--overwrite"):
        load_state(folder, {}, "cpu", 5, 2)


@pytest.mark.parametrize(
    "text", ["run = 1", "run = 'a'\ntraining = 1979-05-27", 'training = "x"', "[[run]]", "run = []"]
)
def test_values_in_place_of_tables_are_damage(text: str, tmp_path: Path) -> None:
    (tmp_path / RUN_FILE).write_text(text)
    with pytest.raises(RequestError, match=r"run\.toml is damaged \(it has values outside"):
        open_run_folder(tmp_path, {"student": "x"}, TrainingConfig("paper"), overwrite=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"step": -1},
        {"step": 1.5},
        {"step": True},
        {"loss_sum": "1"},
        {"best_top1": None},
        {"history": [{"loss": "1", "learning_rate": 1.0, "top1": None, "seconds": 1.0}]},
        {"history": [{"loss": 1.0, "learning_rate": 1.0, "top1": [], "seconds": 1.0}]},
        {"unknown": 1},
    ],
)
def test_a_progress_of_other_types_is_damage(changes: dict[str, Any], tmp_path: Path) -> None:
    progress = {**asdict(TrainingState()), **changes}
    torch.save({"progress": progress}, tmp_path / STATE_FILE)
    with pytest.raises(RequestError, match=r"state\.pt is damaged"):
        load_state(tmp_path, {}, "cpu", 5, 2)


def test_a_state_of_packed_zeros_is_damage(tmp_path: Path) -> None:
    torch.save({"progress": asdict(TrainingState())}, tmp_path / "plain")
    with (
        zipfile.ZipFile(tmp_path / "plain") as plain,
        zipfile.ZipFile(tmp_path / STATE_FILE, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
        packed.writestr("plain/data/0", bytes(2**28))
    with pytest.raises(RequestError, match=r"state\.pt is damaged \(CheckpointError\)"):
        load_state(tmp_path, {}, "cpu", 5, 2)
