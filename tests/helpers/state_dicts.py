"""Small state dicts with names of TinyViT, for tests of how checkpoints are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tinyvit.errors import CheckpointError
from tinyvit.nn.checkpoints.weight_files import read_weights
from tinyvit.nn.checkpoints.weights import Weights

State = dict[str, torch.Tensor]
Save = Callable[..., Path]

TIMM_SHAPES = {
    "patch_embed.conv1.conv.weight": (32, 3, 3, 3),
    "stages.3.downsample.conv3.conv.weight": (6, 6, 1, 1),
    "stages.0.blocks.0.conv1.bn.running_mean": (8,),
    **{f"stages.1.blocks.{i}.mlp.fc1.weight": (2, 2) for i in range(10)},
    "head.norm.weight": (6,),
    "head.norm.bias": (6,),
    "head.fc.weight": (7, 6),
    "head.fc.bias": (7,),
}
"""A few of the tensors of a network in timm's layout, much smaller than in any TinyViT."""

OFFICIAL_NAMES = {
    "patch_embed.conv1.conv.weight": "patch_embed.seq.0.c.weight",
    "stages.3.downsample.conv3.conv.weight": "layers.2.downsample.conv3.c.weight",
    "head.norm.weight": "norm_head.weight",
    "head.norm.bias": "norm_head.bias",
    "head.fc.weight": "head.weight",
    "head.fc.bias": "head.bias",
}


def make_state(value: float | None = None) -> State:
    """Return tensors of a network: random numbers, or always the same number."""
    if value is not None:
        return {name: torch.full(shape, value) for name, shape in TIMM_SHAPES.items()}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in TIMM_SHAPES.items()}


def make_official_state() -> State:
    """Return tensors of a network in the paper's layout."""
    return {
        OFFICIAL_NAMES.get(name, name.replace("stages.", "layers.")): value
        for name, value in make_state().items()
    }


def add_prefix(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


def without_classifier(state: State) -> State:
    return {name: value for name, value in state.items() if not name.startswith("head.fc")}


def refusal(path: Path) -> str:
    """Return the message with which a file is refused."""
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check_tensors(weights: Weights, expected: State) -> None:
    assert weights.tensors.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(weights.tensors[name], value), name


class Layer(nn.Module):
    """A module whose parameters have the names of a state dict."""

    def __init__(self, state: State) -> None:
        super().__init__()
        for name, value in state.items():
            child, _, rest = name.partition(".")
            if not rest:
                self.register_parameter(child, nn.Parameter(value))
            elif child not in self._modules:
                inside = {
                    key.removeprefix(f"{child}."): tensor
                    for key, tensor in state.items()
                    if key.startswith(f"{child}.")
                }
                self.add_module(child, Layer(inside))
