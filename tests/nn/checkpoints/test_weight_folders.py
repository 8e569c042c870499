"""Folders with checkpoints are read, or refused with what they contain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors.torch")
import safetensors.torch
import torch

from tests.helpers.state_dicts import (
    State,
    add_prefix,
    check_tensors,
    make_state,
    refusal,
)
from tinyvit.checkpoint_paths import BEST_CHECKPOINT, LAST_CHECKPOINT
from tinyvit.distill.training.run import folder as run_folder
from tinyvit.nn.checkpoints.weight_files import read_weights
from tinyvit.nn.checkpoints.weight_folders import hash_weight_files


def write_folder(folder: Path, state: State, **config: Any) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.torch.save_file(state, folder / "model.safetensors")


def test_a_folder_of_hugging_face(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_folder(folder, add_prefix(make_state(), "timm_model."), architecture="tiny_vit_5m_224")
    weights = read_weights(folder)
    check_tensors(weights, make_state())
    assert weights.prefix == "timm_model."
    assert weights.config == {"architecture": "tiny_vit_5m_224"}
    assert read_weights(folder / "model.safetensors").config == weights.config
    assert hash_weight_files(folder) == hash_weight_files(folder / "model.safetensors")


def test_a_config_of_something_else_is_not_used(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", make_state(), learning_rate=0.1)
    assert read_weights(tmp_path / "model").config == {}


@pytest.mark.parametrize("key", ["idx_to_class", "class_to_idx", "class_names", "classes"])
def test_a_config_that_only_names_classes_is_used(tmp_path: Path, key: str) -> None:
    write_folder(tmp_path / "model", make_state(), **{key: ["a", "b"]})
    assert read_weights(tmp_path / "model").config == {key: ["a", "b"]}


def test_a_folder_with_a_file_of_torch(tmp_path: Path) -> None:
    torch.save(make_state(), tmp_path / "pytorch_model.bin")
    torch.save({}, tmp_path / "optimizer.pt")
    check_tensors(read_weights(tmp_path), make_state())
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "model_best.pth.tar")
    check_tensors(read_weights(tmp_path), make_state())
    torch.save(make_state(), tmp_path / "last.pth.tar")
    assert "contains 2 checkpoints (last.pth.tar, model_best.pth.tar)" in refusal(tmp_path)
    assert refusal(tmp_path).endswith(": give one of these files")


def test_the_result_in_a_folder_of_our_own_training_is_recommended(tmp_path: Path) -> None:
    for name in (BEST_CHECKPOINT, LAST_CHECKPOINT, run_folder.STATE_FILE):
        (tmp_path / name).touch()
    assert refusal(tmp_path).endswith(
        "contains 3 checkpoints (best.safetensors, last.safetensors, state.pt):"
        f" give {tmp_path / 'best.safetensors'}, the result of a training"
    )


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_with_split_weights(tmp_path: Path, kind: str) -> None:
    state = make_state()
    names = list(state)
    stem, suffix = kind.split(".")
    weight_map = {}
    for number, part in enumerate((names[:4], names[4:]), 1):
        file = f"{stem}-0000{number}-of-00002.{suffix}"
        content = {name: state[name] for name in part}
        weight_map.update(dict.fromkeys(part, file))
        if suffix == "bin":
            torch.save(content, tmp_path / file)
        else:
            safetensors.torch.save_file(content, tmp_path / file)
    index = tmp_path / f"{kind}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    check_tensors(read_weights(tmp_path), state)
    assert len(hash_weight_files(tmp_path)) == 64
    (tmp_path / file).unlink()
    assert f"{file}, which {kind}.index.json names, is missing" in refusal(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "../secret.bin"}}))
    assert "names the file ../secret.bin, which is not in its folder" in refusal(tmp_path)


class TensorWithoutArguments:
    """Pickled as a call of the function that creates tensors, without arguments."""

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return torch._utils._rebuild_tensor_v2, ()


def test_a_damaged_part_of_split_weights_is_refused(tmp_path: Path) -> None:
    torch.save({"a": TensorWithoutArguments()}, tmp_path / "1.bin")
    torch.save({"b": torch.zeros(1)}, tmp_path / "2.bin")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.bin", "b": "2.bin"}}))
    assert "1.bin is a damaged or truncated torch file" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": 5}, "is not a valid list of weight files"),
        ({str(i): f"{i}.bin" for i in range(1001)}, "names 1001 files, and at most 1000 are read"),
    ],
)
def test_an_invalid_list_of_weight_files(
    tmp_path: Path, weight_map: dict[str, object], message: str
) -> None:
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert message in refusal(tmp_path)


def test_folders_without_weights_are_explained(tmp_path: Path) -> None:
    assert "it has no model.safetensors" in refusal(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "an adapter (LoRA)" in refusal(tmp_path)
    (tmp_path / "__0_0.distcp").write_bytes(b"x")
    assert "dcp_to_torch" in refusal(tmp_path)


def test_a_folder_of_checkpoints_of_a_trainer_names_them(tmp_path: Path) -> None:
    for step in (500, 1000):
        write_folder(tmp_path / f"checkpoint-{step}", make_state())
    message = refusal(tmp_path)
    assert "contains the checkpoints of a training (checkpoint-1000, checkpoint-500)" in message
    assert f"give one of these folders, such as {tmp_path / 'checkpoint-1000'}" in message
    check_tensors(read_weights(tmp_path / "checkpoint-500"), make_state())
