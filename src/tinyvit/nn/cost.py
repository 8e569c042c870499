"""The cost of a PyTorch network: numbers of its parameters and multiply-accumulates."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from tinyvit.image_sizes import height_and_width
from tinyvit.nn.model import TinyViT


def count_params(model: TinyViT) -> int:
    """Count the trained parameters of a network.

    Args:
        model: A network that is not folded (see `tinyvit.nn.fold`).

    Returns:
        The number of values, without the running statistics of BatchNorm, which are not trained.
    """
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def count_macs(model: TinyViT) -> int:
    """Count the multiply-accumulates for one image.

    Args:
        model: The network, on any device. On the device "meta", the logits are not computed, so
            counting takes almost no time.

    Returns:
        The number of multiply-accumulates in convolutions, linear layers and the two matrix
        products of attention.
    """
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, *height_and_width(model.img_size), device=device))
    # torch counts a multiply-accumulate as two floating-point operations.
    return int(counter.get_total_flops()) // 2
