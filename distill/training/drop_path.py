"""Adds stochastic depth: during training, residual branches are skipped for random images.

Source: Huang et al., "Deep Networks with Stochastic Depth", 2016. Forward hooks set the outputs of
the skipped branches to 0. So the modules of the network stay as they are, and the network can be
exported later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tinyvit.nn.layers import MBConv
from tinyvit.nn.model import Block, TinyViT


def add_drop_path(model: TinyViT, rate: float) -> None:
    """Make a network skip residual branches for random images while it is in training mode.

    The probability of skipping increases linearly from 0 in the first block to `rate` in the last
    block (microsoft/Cream, TinyViT/models/tiny_vit.py). The output of a branch that is not skipped
    is divided by the probability of not skipping it, so that the expected output is unchanged.

    Args:
        model: The network, which is changed in place.
        rate: Probability of skipping a branch in the last block, at least 0 and below 1.
    """
    if rate == 0:
        return
    blocks = [module for module in model.modules() if isinstance(module, (MBConv, Block))]
    block_rates = torch.linspace(0, rate, len(blocks)).tolist()
    for block, block_rate in zip(blocks, block_rates):
        if isinstance(block, MBConv):
            # The residual branch of an MBConv ends with its third convolution.
            hook = _make_hook(block_rate, rows_per_image=1)
            block.conv3.register_forward_hook(hook)
        else:
            hook = _make_hook(block_rate, rows_per_image=block.grid.resolution**2)
            for branch in (block.attn, block.mlp):
                branch.register_forward_hook(hook)


def _make_hook(rate: float, rows_per_image: int) -> Callable[..., Tensor]:
    """Return a forward hook that sets the output of a branch to 0 for random images.

    The first axis of the output has B * rows_per_image entries: one for each image in a convolution
    branch, (B, C, H, W), and one for each token in a transformer branch, (B * tokens, C).
    """

    def drop_branch(module: nn.Module, _: Any, output: Tensor) -> Tensor:
        if not module.training or rate == 0:
            return output
        keep_probability = 1 - rate
        image_count = output.shape[0] // rows_per_image
        factors = torch.empty(image_count, 1, device=output.device, dtype=output.dtype)
        factors = factors.bernoulli_(keep_probability).div_(keep_probability)
        return (output.reshape(image_count, -1) * factors).reshape(output.shape)

    return drop_branch
