"""A whole TinyViT in a small file: all tensors are parts of one storage of equal numbers."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

import torch

from tests.hostile.torch_records import Call, Storage, make_tensor
from tinyvit.nn.model import TinyViT
from tinyvit.variants import VARIANTS

CLASS_COUNT = 5
VALUE = 0.01

OFFICIAL_PARTS = (
    ("patch_embed.conv1.", "patch_embed.seq.0."),
    ("patch_embed.conv2.", "patch_embed.seq.2."),
    ("head.norm.", "norm_head."),
    ("head.fc.", "head."),
    (".conv.weight", ".c.weight"),
)
"""Parts of the names in timm's layout, and in the paper's."""


@cache
def list_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights by name."""
    with torch.device("meta"):
        network = TinyViT(VARIANTS["tiny_vit_5m_224"], CLASS_COUNT)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


@cache
def make_storage() -> bytes:
    """Return the bytes of the storage, float16."""
    count = max(math.prod(shape) for shape in list_shapes().values())
    return torch.full((count,), VALUE, dtype=torch.float16).numpy().tobytes()


def list_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a contiguous tensor."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def make_records(key: str = "0") -> dict[str, Call]:
    """Return the records of the tensors by name; all refer to one storage."""
    storage = Storage(key=key, count=len(make_storage()) // 2)
    return {
        name: make_tensor(storage, 0, shape, list_strides(shape))
        for name, shape in list_shapes().items()
        if not name.endswith("num_batches_tracked")
    }


def convert_to_official(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state dict with the names of the paper's code."""
    converted = {}
    for name, value in state.items():
        for old, new in OFFICIAL_PARTS:
            name = name.replace(old, new)
        # In the paper's code, the downsampling is at the end of the stage before.
        name = re.sub(
            r"stages\.(\d)\.downsample",
            lambda match: f"layers.{int(match[1]) - 1}.downsample",
            name,
        )
        converted[name.replace("stages.", "layers.")] = value
    return converted


def make_tensors() -> dict[str, torch.Tensor]:
    """Return the tensors themselves, for other writers."""
    return {
        name: torch.full(shape, VALUE, dtype=torch.float16)
        for name, shape in list_shapes().items()
        if not name.endswith("num_batches_tracked")
    }
