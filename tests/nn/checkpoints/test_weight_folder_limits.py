"""Folders of checkpoints that name long, large or wrong files are refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.helpers.state_dicts import make_state, refusal
from tinyvit.nn.checkpoints.weight_files import read_weights


def write_index(folder: Path, *names: str) -> None:
    index = {"weight_map": {name: name for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_a_file_as_the_only_snapshot_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "a").write_text("a")
    assert f"the folder {tmp_path} cannot be read as a checkpoint" in refusal(tmp_path)
    torch.save(make_state(), tmp_path / "weights.pth")
    assert read_weights(tmp_path).tensors.keys() == make_state().keys()


def test_an_index_with_a_name_of_thousands_of_characters_is_refused(tmp_path: Path) -> None:
    write_index(tmp_path, "x" * 5000)
    message = refusal(tmp_path)
    assert message.startswith(f"{'x' * 1000}...xxx")
    reason = "xxx, which model.safetensors.index.json names, is missing in "
    assert message.endswith(f"{reason}{tmp_path}: download all files of the model")
    assert len(message) < 2100


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_parts_of_more_than_4_gib_together_are_refused(
    tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 2**30)
    names = [f"part{number}" for number in range(5)]
    for name in names:
        link(tmp_path / "large", tmp_path / name)
    write_index(tmp_path, *names)
    assert "names have 5.0 GiB, more than any TinyViT checkpoint" in refusal(tmp_path)
