"""What the tests of quantization share: a small network (the demo's weights at 64 pixels) and a recipe for it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch import nn

from tinyvit.nn.fold import fold_model
from tinyvit.nn.hub import load_released
from tinyvit.nn.model import TinyViT
from tinyvit.quant.calibration import METHOD, calibrate
from tinyvit.quant.quantized_layers import QuantizedLayer
from tinyvit.quant.recipe import Recipe


@pytest.fixture(scope="session")
def noise() -> torch.Tensor:
    """float32 (24, 3, 64, 64)."""
    return torch.randn(24, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def small() -> TinyViT:
    return fold_model(load_released("demo").at_size(64).build())


@pytest.fixture(scope="session")
def recipe(small: TinyViT, noise: torch.Tensor) -> Recipe:
    return Recipe("abc", 64, calibrate(small, noise), 8, (), METHOD, "def", len(noise))


class Saturating(nn.Module):
    """A quantized layer as kernels of x86 without VNNI compute it, float64 in and out.

    They multiply uint8 activations (int8 + 128) by int8 weights and add neighboring pairs in int16, which clamps (vpmaddubsw);
    pairs are neighbors in the order of the sum: input channels, and for convolutions channels within rows and columns. What
    the clamps cut off is subtracted from the right answer; depthwise convolutions add nothing in pairs.
    """

    def __init__(self, layer: QuantizedLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        right, layer = self.layer(x), self.layer
        integers = (x / layer.input_point.scale).round().clamp(-128, 127)
        if layer.convolution is None:
            return right - self._cut_off(integers.flatten(0, -2), layer.weight).reshape(right.shape)
        stride, padding, groups = layer.convolution
        if groups > 1:
            return right
        batch, channels = x.shape[:2]
        patches = F.unfold(
            integers, layer.weight.shape[2:], padding=padding, stride=stride
        ).unflatten(1, (channels, -1))
        rows = patches.permute(0, 3, 2, 1).flatten(2).flatten(0, 1)
        cut_off = self._cut_off(rows, layer.weight.permute(0, 2, 3, 1).flatten(1))
        return right - cut_off.reshape(batch, -1, right.shape[1]).transpose(1, 2).reshape(
            right.shape
        )

    def _cut_off(self, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """(n, inputs) integers, (outputs, inputs) -> (n, outputs), in the output's unit."""
        pairs, weights = (rows + 128).unflatten(1, (-1, 2)), weight.double().unflatten(1, (-1, 2))
        lost = torch.zeros(len(rows), len(weight), dtype=torch.float64)
        can = (weights.clamp_min(0).sum(2) * 255 > 2**15 - 1) | (
            weights.clamp_max(0).sum(2) * 255 < -(2**15)
        )
        for k in can.any(0).nonzero().flatten().tolist():
            sums = pairs[:, k] @ weights[can[:, k], k].T
            lost[:, can[:, k]] += sums - sums.clamp(-(2**15), 2**15 - 1)
        return lost * self.layer.scales.double() * self.layer.input_point.scale


@pytest.fixture(scope="session")
def saturating() -> Callable[[nn.Module], nn.Module]:
    """Gives a copy of a quantized network (or sequence of layers), float64, with every quantized layer a Saturating one."""

    def make(network: nn.Module) -> nn.Module:
        network = copy.deepcopy(network).double()
        for name, layer in list(network.named_modules()):
            if isinstance(layer, QuantizedLayer):
                parent, _, child = name.rpartition(".")
                setattr(network.get_submodule(parent), child, Saturating(layer))
        return network

    return make
