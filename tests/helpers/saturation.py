"""A simulation of int8 kernels whose sums saturate: those for x86 processors without VNNI."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import nn

from tinyvit.quant.quantized_layers import QuantizedLayer

Network = TypeVar("Network", bound=nn.Module)

INT16_MIN, INT16_MAX = -(2**15), 2**15 - 1
UINT8_MAX = 255


class SaturatingLayer(nn.Module):
    """A quantized layer as kernels for x86 without VNNI compute it, simulated in float64.

    The kernels multiply uint8 activations (the int8 value + 128) by int8 weights, and add the
    products in pairs with the instruction vpmaddubsw. The sum of a pair is an int16 that saturates:
    a larger sum is replaced by the largest int16. A pair consists of neighboring input channels
    (of one kernel position, in convolutions). Depthwise convolutions add no pairs.

    The simulation computes the exact result and subtracts what saturation cuts off.
    """

    def __init__(self, layer: QuantizedLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the layer's output: (..., inputs) -> (..., outputs), or NCHW -> NCHW."""
        exact, layer = self.layer(x), self.layer
        integers = (x / layer.input_quantizer.scale).round().clamp(-128, 127)
        if layer.convolution is None:
            lost = self._lost_to_saturation(integers.flatten(0, -2), layer.weight)
            return exact - lost.reshape(exact.shape)
        stride, padding, groups = layer.convolution
        if groups > 1:  # a depthwise convolution
            return exact
        batch, channels = x.shape[:2]
        patches = F.unfold(integers, layer.weight.shape[2:], padding=padding, stride=stride)
        patches = patches.unflatten(1, (channels, -1)).permute(0, 3, 2, 1)
        rows = patches.flatten(2).flatten(0, 1)
        lost = self._lost_to_saturation(rows, layer.weight.permute(0, 2, 3, 1).flatten(1))
        lost = lost.reshape(batch, -1, exact.shape[1]).transpose(1, 2)
        return exact - lost.reshape(exact.shape)

    def _lost_to_saturation(self, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Compute what saturation cuts off.

        Args:
            rows: Activations (n, inputs), integers from -128 to 127.
            weight: Weights (outputs, inputs), integers.

        Returns:
            The exact sum minus the saturated sum, (n, outputs), in units of the layer's output.
        """
        pairs = (rows + 128).unflatten(1, (-1, 2))  # (n, inputs / 2, 2)
        weights = weight.double().unflatten(1, (-1, 2))  # (outputs, inputs / 2, 2)
        lost = torch.zeros(len(rows), len(weight), dtype=torch.float64)
        can_saturate = (weights.clamp_min(0).sum(2) * UINT8_MAX > INT16_MAX) | (
            weights.clamp_max(0).sum(2) * UINT8_MAX < INT16_MIN
        )
        for pair in can_saturate.any(0).nonzero().flatten().tolist():
            outputs = can_saturate[:, pair]
            sums = pairs[:, pair] @ weights[outputs, pair].T
            lost[:, outputs] += sums - sums.clamp(INT16_MIN, INT16_MAX)
        return lost * self.layer.scales.double() * self.layer.input_quantizer.scale


def with_saturating_kernels(network: Network) -> Network:
    """Return a float64 copy of a network in which every quantized layer saturates."""
    network = copy.deepcopy(network).double()
    for name, layer in list(network.named_modules()):
        if isinstance(layer, QuantizedLayer):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, SaturatingLayer(layer))
    return network
