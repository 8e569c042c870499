"""Damaged and odd checkpoints are read, or refused with a cause and a remedy."""

from __future__ import annotations

import contextlib
import io
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.hostile_text import HOSTILE_TEXT, has_control_characters
from tests.helpers.state_dicts import make_state
from tinyvit.errors import CheckpointError
from tinyvit.nn.checkpoints.metadata.label_sources import find_labels
from tinyvit.nn.checkpoints.weight_files import read_weights

CLASS_COUNT = 7
"""Number of classes of `make_state`."""


def save_checkpoint(path: Path, is_old_format: bool = False, **entries: Any) -> Path:
    content = {"model": make_state(), **entries}
    torch.save(content, path, _use_new_zipfile_serialization=not is_old_format)
    return path


@pytest.mark.parametrize("is_old_format", [True, False])
def test_a_flipped_bit_is_harmless_or_refused(is_old_format: bool, tmp_path: Path) -> None:
    names = {"class_to_idx": dict(zip("abcdefg", range(CLASS_COUNT))), "epoch": 3}
    path = save_checkpoint(tmp_path / "model.pth", is_old_format, **names)
    content, rng = path.read_bytes(), random.Random(0)
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with contextlib.suppress(CheckpointError):
            find_labels(read_weights(path), CLASS_COUNT, path)


@pytest.mark.parametrize("kind", ["per tensor", "per channel", "dynamic"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantized_weights_are_refused(kind: str, tmp_path: Path) -> None:
    state = make_state()
    weight = state["head.fc.weight"]
    if kind == "per tensor":
        state["head.fc.weight"] = torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)
    elif kind == "per channel":
        scales, zeros = torch.ones(CLASS_COUNT), torch.zeros(CLASS_COUNT, dtype=torch.int64)
        quantized = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        state["head.fc.weight"] = quantized
    else:
        module = torch.nn.Sequential(torch.nn.Linear(6, CLASS_COUNT))
        state |= torch.ao.quantization.quantize_dynamic(module, {torch.nn.Linear}).state_dict()
    path = tmp_path / "model.pth"
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match="quantiz"):
        read_weights(path)


@pytest.mark.parametrize(
    "class_to_idx",
    [
        {"a": 0, 1: "b", "c": 2},
        {"a": 0, "b": "1", "c": 2.0},
        {"a": None, "b": [], "c": {}},
        {"²": 0, "b": "²", "c": 10**400},
        {0: 0, "0": 0, 1.5: 1},
        {HOSTILE_TEXT: HOSTILE_TEXT},
    ],
    ids=["mixed keys", "mixed values", "containers", "odd numbers", "same keys", "hostile text"],
)
def test_mixed_class_indices_are_not_used(class_to_idx: dict[Any, Any], tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "model.pth", class_to_idx=class_to_idx)
    labels, source = find_labels(read_weights(path), CLASS_COUNT, path)
    assert labels is None
    assert source.startswith("none in the checkpoint, so the classes are numbered")
    assert not has_control_characters(str(CheckpointError(source, "")))
