"""Stochastic depth while training: a block's branch is left out for some pictures (Huang et al., 2016).

Hooks on the branches of the network as it is, so that what is exported has none of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tinyvit.nn.model import Block, MBConv, TinyViT


def add_drop_path(model: TinyViT, rate: float) -> None:
    """Leave branches out with a probability that grows evenly from 0 in the first block to `rate` in the last (microsoft/Cream,
    tiny_vit.py); the sum is scaled so that its mean stays. In eval mode nothing is left out."""
    if rate == 0:
        return
    blocks = [module for module in model.modules() if isinstance(module, (MBConv, Block))]
    for block, drop in zip(blocks, torch.linspace(0, rate, len(blocks)).tolist()):
        if isinstance(block, MBConv):
            block.conv3.register_forward_hook(_dropping(drop, None))
        else:
            for branch in (block.attn, block.mlp):
                branch.register_forward_hook(_dropping(drop, block.resolution**2))


def _dropping(rate: float, tokens: int | None) -> Any:
    """A hook for results (B, ...), or (B * tokens, channels) whose tokens of one picture lie together."""

    def hook(module: nn.Module, _: Any, result: Tensor) -> Tensor:
        if not module.training or rate == 0:
            return result
        pictures = result.shape[0] // (tokens or 1)
        kept = (
            torch.empty(pictures, 1, device=result.device, dtype=result.dtype)
            .bernoulli_(1 - rate)
            .div_(1 - rate)
        )
        return (result.reshape(pictures, -1) * kept).reshape(result.shape)

    return hook
