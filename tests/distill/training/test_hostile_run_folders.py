"""Damaged and hostile folders of training runs and settings are refused."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.hostile.torch_records import (
    Call,
    Name,
    Storage,
    make_tensor,
    write_archive,
    write_pickle,
)
from tinyvit.distill.training.config import TrainingConfig, read_config
from tinyvit.distill.training.run.folder import (
    STATE_FILE,
    TrainingState,
    load_state,
    open_run_folder,
    save_state,
)
from tinyvit.distill.training.run.history import EpochSummary
from tinyvit.errors import RequestError

STEPS_PER_EPOCH, EPOCHS = 10, 3
SUMMARY = EpochSummary(loss=1.5, learning_rate=1e-4, top1=50.0, seconds=3.0)
PROGRESS = TrainingState(step=12, loss_sum=2.5, best_top1=50.0, seconds=1.0, history=[SUMMARY])
CONFIG = TrainingConfig(preset="scratch-1k", batch=8, drop_path=0.1)


def make_parts(seed: int) -> dict[str, Any]:
    """Return a network and its optimizer after one step."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98))
    model(torch.randn(1, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    return {"model": model, "optimizer": optimizer}


def load(folder: Path) -> TrainingState:
    return load_state(folder, make_parts(1), "cpu", STEPS_PER_EPOCH, EPOCHS)


def check_refusal(folder: Path, reason: str) -> None:
    with pytest.raises(RequestError) as caught:
        load(folder)
    assert caught.value.cause == f"{folder / STATE_FILE} is damaged ({reason})"
    assert caught.value.remedy == "use --overwrite to start the run again"


def test_a_state_is_restored_exactly(tmp_path: Path) -> None:
    saved, restored = make_parts(0), make_parts(1)
    save_state(tmp_path, PROGRESS, saved)
    assert load_state(tmp_path, restored, "cpu", STEPS_PER_EPOCH, EPOCHS) == PROGRESS
    for name, value in saved["model"].state_dict().items():
        assert torch.equal(restored["model"].state_dict()[name], value), name
    assert str(restored["optimizer"].state_dict()) == str(saved["optimizer"].state_dict())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("step", value) for value in (-1, 9, 21, 2**63, 12.0, "12", None, True, [])),
        *(("loss_sum", value) for value in (float("nan"), float("inf"), 1e300, "1", None)),
        *(("history", value) for value in (None, 5, "a", {}, [SUMMARY] * 2, [SUMMARY] * 4)),
        ("history", [{"loss": 1.0}]),
        ("unknown", 1),
    ],
)
def test_impossible_progress_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    parts = {name: part.state_dict() for name, part in make_parts(0).items()}
    progress = {**vars(PROGRESS), "history": [vars(SUMMARY)], field: value}
    if isinstance(value, list):
        progress[field] = [vars(entry) if entry is SUMMARY else entry for entry in value]
    torch.save({"progress": progress, **parts}, tmp_path / STATE_FILE)
    with pytest.raises(RequestError, match=r"state\.pt is damaged"):
        load(tmp_path)


def change_optimizer(change: str, state: dict[str, Any]) -> None:
    values = state["state"][0]
    if change == "shape":
        values["exp_avg"] = torch.zeros(7)
    elif change == "missing":
        del values["exp_avg_sq"]
    elif change == "setting":
        state["param_groups"][0]["betas"] = ("a", [])
    elif change == "step":
        values["step"] = torch.zeros(2**20)


@pytest.mark.parametrize("change", ["shape", "missing", "setting", "step"])
def test_an_optimizer_of_another_network_is_refused(tmp_path: Path, change: str) -> None:
    parts = {name: part.state_dict() for name, part in make_parts(0).items()}
    change_optimizer(change, parts["optimizer"])
    progress = {**vars(PROGRESS), "history": [vars(SUMMARY)]}
    torch.save({"progress": progress, **parts}, tmp_path / STATE_FILE)
    check_refusal(tmp_path, "ValueError")


def write_records(folder: Path, content: Mapping[str, Any]) -> None:
    (folder / STATE_FILE).write_bytes(write_archive(write_pickle(content), {"0": bytes(64)}))


def test_tensors_that_are_larger_than_the_file_are_refused(tmp_path: Path) -> None:
    """Torch would allocate 512 GiB for this tensor when the optimizer copies it."""
    large = make_tensor(Storage(torch.DoubleStorage, "0", 1), 0, (2**36,), (0,))
    write_records(tmp_path, {"progress": {}, "model": {"0.weight": large}})
    check_refusal(tmp_path, "ValueError")


def test_objects_and_calls_are_refused(tmp_path: Path) -> None:
    write_records(tmp_path, {"progress": Call(Name("builtins", "bytearray"), 2**40)})
    check_refusal(tmp_path, "ValueError")
    write_records(tmp_path, {"progress": Call(Name("os", "system"), "touch CANARY")})
    check_refusal(tmp_path, "CheckpointError")


def test_a_run_file_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.toml")
    with pytest.raises(RequestError, match=r"is damaged \(it is a named pipe"):
        open_run_folder(tmp_path, {"student": "a"}, CONFIG, overwrite=False)


@pytest.mark.parametrize("text", ["a{} = 1", "[a{}]", "a = {{a{} = 1}}", 'a{} . "a" = 1'])
def test_keys_of_many_parts_are_refused_at_once(tmp_path: Path, text: str) -> None:
    """Python's reader takes quadratic time: hours for these files of 800 kB."""
    path = tmp_path / "a.toml"
    path.write_text(text.format(".a" * 400_000))
    start_s = time.process_time()
    with pytest.raises(RequestError, match="it has a key of more than 32 parts"):
        read_config(path)
    assert time.process_time() - start_s < 5


def test_numbers_and_texts_may_have_many_points(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    points = ".".join("1" for _ in range(30))
    path.write_text(f'[run]\na = [{"0.5, " * 100}]\nb = "{points}"\n[training]\npreset = "a"\n')
    assert read_config(path).preset == "a"
