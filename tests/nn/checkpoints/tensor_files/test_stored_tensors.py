"""Tensors of every kind that checkpoints contain are read exactly, or refused by their kind."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors.torch")
import torch
from torch import nn

from tests.helpers.state_dicts import (
    Save,
    check_tensors,
    make_state,
    refusal,
)
from tinyvit.nn.checkpoints.weight_files import read_weights


def test_tensors_that_share_storage_and_other_types(save: Save) -> None:
    whole = torch.arange(100.0)
    state = make_state()
    state["head.fc.weight"] = whole[3:45].view(6, 7).t()
    state["head.fc.bias"] = whole[50:64:2]
    state["head.norm.weight"] = nn.Parameter(torch.ones(6))
    state["head.norm.bias"] = torch.ones(1).expand(6)
    check_tensors(read_weights(save(state)), state)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        converted = {name: value.to(dtype) for name, value in state.items()}
        check_tensors(read_weights(save(converted)), converted)
    check_tensors(read_weights(save(state, _use_new_zipfile_serialization=False)), state)
    check_tensors(read_weights(save(state, pickle_protocol=5)), state)
    arrays = {name: value.detach().numpy() for name, value in state.items()}
    check_tensors(read_weights(save(arrays)), {n: torch.tensor(v) for n, v in arrays.items()})


def test_files_without_checksums(save: Save) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = save(make_state())
    finally:
        torch.serialization.set_crc32_options(True)
    check_tensors(read_weights(path), make_state())


def test_channels_last_weights(save: Save) -> None:
    name = "patch_embed.conv1.conv.weight"
    state = make_state()
    state[name] = state[name].to(memory_format=torch.channels_last)
    check_tensors(read_weights(save(state)), make_state())


def test_pruned_weights_are_multiplied_by_their_masks(save: Save) -> None:
    state = make_state()
    weight = state.pop("head.fc.weight")
    mask = (weight > 0).float()
    path = save({**state, "head.fc.weight_orig": weight, "head.fc.weight_mask": mask})
    assert torch.equal(read_weights(path).tensors["head.fc.weight"], weight * mask)


def test_a_dtensor_that_is_not_split(tmp_path: Path, save: Save) -> None:
    distributed = pytest.importorskip("torch.distributed")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor
    from torch.testing._internal.distributed.fake_pg import FakeStore

    try:
        distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    except (RuntimeError, ValueError, AssertionError) as error:
        pytest.skip(f"no fake process group ({error})")
    try:
        mesh = init_device_mesh("cpu", (2,))
        state = make_state()
        for placement in (Replicate(), Shard(0)):
            weight = distribute_tensor(state["head.fc.bias"], mesh, [placement])
            path = save({**state, "head.fc.bias": weight}, f"{type(placement).__name__}.pth")
    finally:
        distributed.destroy_process_group()
    check_tensors(read_weights(tmp_path / "Replicate.pth"), state)
    assert "head.fc.bias" in refusal(path)
    assert "is only a part (a shard of a DTensor) of a weight" in refusal(path)


def test_quantized_complex_and_sparse_tensors_are_refused(save: Save) -> None:
    state = make_state()
    quantized = torch.quantize_per_tensor(state["head.fc.weight"], 0.1, 0, torch.qint8)
    values: tuple[tuple[torch.Tensor, str], ...] = (
        (quantized, "is quantized"),
        (state["head.fc.weight"].to(torch.complex64), "has complex numbers"),
        (state["head.fc.weight"].to_sparse(), "is sparse"),
        (state["head.fc.weight"].to("meta"), "has no values"),
    )
    for value, reason in values:
        message = refusal(save({**state, "head.fc.weight": value}))
        assert "head.fc.weight" in message
        assert reason in message
