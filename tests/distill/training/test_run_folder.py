"""A saved state that cannot be restored is explained, without the advice to delete a good one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tinyvit.distill.training import run_folder
from tinyvit.distill.training.run_folder import TrainingState, load_state, save_state
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
