"""Computes depthwise convolutions of stride 2 in float32 where the rest is bfloat16 on a CPU.

torch 2.13 computes the gradient of such a convolution on CPUs five times slower in bfloat16 than in
float32, although the network has only three of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tinyvit.distill.training.device import ComputeDevice


class _Float32Conv2d(nn.Conv2d):
    """A convolution that autocast does not change; the output has the type that autocast uses."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute the convolution in float32 and round the output to autocast's type."""
        if not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            y = super().forward(x.float())
        return y.to(torch.get_autocast_dtype("cpu"))


def use_float32_for_strided_depthwise(model: nn.Module, device: ComputeDevice) -> None:
    """Make a network that trains in bfloat16 on a CPU compute some convolutions in float32.

    These are the depthwise convolutions with a stride above 1. They keep their weights and biases.
    A step of TinyViT-5M at 128 pixels takes 0.83 of its time (see docs/lab-notes/training.md).

    Args:
        model: The network, whose layers are changed in place.
        device: The device on which the network trains. Nothing changes on other devices than CPUs
            with bfloat16.
    """
    if device.name != "cpu" or not device.uses_bfloat16:
        return
    for layer in model.modules():
        if type(layer) is nn.Conv2d and layer.groups > 1 and max(layer.stride) > 1:
            layer.__class__ = _Float32Conv2d
