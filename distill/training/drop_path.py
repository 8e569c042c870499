"""Adds stochastic depth: during training, residual branches are skipped for random images.

Source: Huang et al., "Deep Networks with Stochastic Depth", 2016. It is implemented as forward
hooks on the branches, so that the modules of the network, which is exported later, are unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tinyvit.nn.layers import MBConv
from tinyvit.nn.model import Block, TinyViT


def add_drop_path(model: TinyViT, rate: float) -> None:
    """Make a network skip residual branches at random in training mode.

    The probability increases linearly from 0 in the first block to `rate` in the last block
    (microsoft/Cream, TinyViT/models/tiny_vit.py). The outputs of other branches are divided by the
    probability of keeping them, so that their expected value is unchanged.

    Args:
        model: The network, which is changed in place.
        rate: Probability of skipping a branch in the last block, 0 to 1.
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
    """Return a forward hook that zeroes the output of a branch for random images.

    `tokens_per_image` is None if the output has the shape (B, ...). Otherwise, the tokens of all
    images are in the first axis: (B * tokens_per_image, C).
    """

    def drop_branch(module: nn.Module, _: Any, output: Tensor) -> Tensor:
        if not module.training or rate == 0:
            return output
        image_count = output.shape[0] // (tokens_per_image or 1)
        mask = torch.empty(image_count, 1, device=output.device, dtype=output.dtype)
        mask = mask.bernoulli_(1 - rate).div_(1 - rate)
        return (output.reshape(image_count, -1) * mask).reshape(output.shape)

    return drop_branch
