"""Stochastic depth: while training, a block's branch is skipped for some images.

Huang et al., "Deep Networks with Stochastic Depth", 2016. It is added as hooks on the branches of
the unchanged network, so that nothing of it is exported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tinyvit.nn.model import Block, MBConv, TinyViT


def add_drop_path(model: TinyViT, rate: float) -> None:
    """Make a network skip branches at random while it trains.

    The probability grows evenly from 0 in the first block to `rate` in the last (microsoft/Cream,
    TinyViT/models/tiny_vit.py). Branches that are not skipped are scaled so that the mean of the
    sum stays. In eval mode nothing is skipped.

    Args:
        model: The network, which is changed in place.
        rate: Probability in the last block, 0 to 1.
    """
    if rate == 0:
        return
    blocks = [module for module in model.modules() if isinstance(module, (MBConv, Block))]
    for block, block_rate in zip(blocks, torch.linspace(0, rate, len(blocks)).tolist()):
        if isinstance(block, MBConv):
            block.conv3.register_forward_hook(_make_hook(block_rate, tokens_per_image=None))
        else:
            for branch in (block.attn, block.mlp):
                branch.register_forward_hook(_make_hook(block_rate, block.resolution**2))


def _make_hook(rate: float, tokens_per_image: int | None) -> Callable[..., Tensor]:
    """Return a hook for outputs (B, ...), or (B * tokens_per_image, channels)."""

    def drop_branch(module: nn.Module, _: Any, output: Tensor) -> Tensor:
        if not module.training or rate == 0:
            return output
        images = output.shape[0] // (tokens_per_image or 1)
        mask = torch.empty(images, 1, device=output.device, dtype=output.dtype)
        mask = mask.bernoulli_(1 - rate).div_(1 - rate)
        return (output.reshape(images, -1) * mask).reshape(output.shape)

    return drop_branch
