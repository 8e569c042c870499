"""The cost of a network: multiply-accumulates and parameters, counted from the module itself."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from tinyvit.nn.model import TinyViT


def count_params(model: TinyViT) -> int:
    """Count the trained parameters of a network.

    Args:
        model: A network that is not folded.

    Returns:
        The number of values, without the running statistics of BatchNorm.
    """
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def count_macs(model: TinyViT) -> int:
    """Count the multiply-accumulates for one image.

    Args:
        model: The network, on any device; on "meta" nothing is computed.

    Returns:
        The number for convolutions, linear layers and the two matrix products of attention.
    """
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, model.img_size, model.img_size, device=device))
    return int(counter.get_total_flops()) // 2  # torch counts a multiply-accumulate as two
