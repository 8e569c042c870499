"""What a network costs: multiply-accumulates and parameters, counted from the module itself."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from tinyvit.nn.model import TinyViT


def count_params(model: TinyViT) -> int:
    """Number of trained values, BatchNorm's statistics not included."""
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
def count_macs(model: TinyViT) -> int:
    """Multiply-accumulates for one picture: convolutions, linear layers and the attention's two products."""
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, model.img_size, model.img_size, device=device))
    return int(counter.get_total_flops()) // 2
