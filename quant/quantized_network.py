"""A recipe applied: the folded network with its layers replaced by quantized ones, ready to trace.

Quantized values are written as quantize-dequantize pairs, which torch.export keeps, every converter reads, and engines
fuse into integer kernels. In float64 the same module is the exact reading of what they stand for (`with_exact_arithmetic`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.ao.quantization.fx import _decomposed  # noqa: F401  (registers torch.ops.quantized_decomposed)

from tinyvit.nn.model import Attention, SplitProjection
from tinyvit.quant.recipe import Recipe
from tinyvit.quant_scheme import FLOAT_LAYERS, QuantScheme

_OPS = torch.ops.quantized_decomposed
_RANGES = {"int8": (0, -128, 127, torch.int8), "uint8": (128, 0, 255, torch.uint8)}

SEVEN_BITS = ("qkv.k", "qkv.v")
"""What attention's products have instead of weights: held to 7 bits, so that no sum saturates on any processor (docs/int8.md)."""
LARGEST_SEVEN = 63

Layer = nn.Linear | nn.Conv2d
Network = TypeVar("Network", bound=nn.Module)
P = TypeVar("P", bound=nn.Module)


class QuantizePoint(nn.Module):
    """Rounds activations to multiples of `scale`, -128 to 127 of them; keeps shape and dtype (float32 or float64).

    seven_bits: -63 to 63 of them instead, for the operand of a product that has the weights' part.
    """

    def __init__(
        self, scale: float, activations: Literal["int8", "uint8"], seven_bits: bool = False
    ) -> None:
        super().__init__()
        self.scale, self.activations, self.seven_bits = scale, activations, seven_bits

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        if self.seven_bits:
            x = x.clamp(-LARGEST_SEVEN * self.scale, LARGEST_SEVEN * self.scale)
        if x.dtype == torch.float64:
            return (x / self.scale).round().clamp(-128, 127) * self.scale
        how = (self.scale, *_RANGES[self.activations])
        rounded: Tensor = _OPS.dequantize_per_tensor(_OPS.quantize_per_tensor(x, *how), *how)
        return rounded


class QuantizedLayer(nn.Module):
    """A linear layer or convolution with int8 weights, one scale an output channel, and an int32 bias where the placement wants that.

    source: how its input is rounded; None leaves input and bias in float32.
    """

    weight: Tensor
    scales: Tensor
    bias: Tensor | None
    bias_scales: Tensor
    rounded: Tensor

    def __init__(
        self, layer: Layer, source: QuantizePoint | None, weight_bits: int, placement: QuantScheme
    ) -> None:
        super().__init__()
        self.source, self.rounds_weights = (
            source,
            placement.weights == "rounded" and source is not None,
        )
        self.convolution = (
            (layer.stride[0], int(layer.padding[0]), layer.groups)
            if isinstance(layer, nn.Conv2d)
            else None
        )
        weight, largest = layer.weight.detach().double(), 2 ** (weight_bits - 1) - 1
        scales = weight_scales(weight, largest).float()
        rounded = (weight / _along(scales.double(), weight)).round().clamp(-largest, largest)
        self.register_buffer("weight", rounded.to(torch.int8))
        if self.rounds_weights:
            self.register_buffer("rounded", (rounded * _along(scales.double(), weight)).float())
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", torch.zeros(len(scales), dtype=torch.int64))
        bias = None if layer.bias is None else layer.bias.detach().clone()
        if source is not None and placement.biases == "int32":
            self.register_buffer("bias_scales", (scales.double() * source.scale).float())
            limit = 2.0**31 - 1
            bias = (
                None
                if bias is None
                else (bias.double() / self.bias_scales.double()).round().clamp(-limit, limit).int()
            )
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """As the layer it stands for."""
        weight, bias = self._restored(self.weight, self.scales, x), self.bias
        if self.source is not None:
            x = self.source(x)
        if bias is not None:
            bias = (
                bias.to(x.dtype)
                if bias.is_floating_point()
                else self._restored(bias, self.bias_scales, x)
            )
        if self.convolution is None:
            return F.linear(x, weight, bias)
        stride, padding, groups = self.convolution
        return F.conv2d(x, weight, bias, stride, padding, groups=groups)

    def _restored(self, integers: Tensor, scales: Tensor, like: Tensor) -> Tensor:
        if like.dtype == torch.float64:
            return integers.double() * _along(scales.double(), integers)
        info = torch.iinfo(integers.dtype)
        how = (scales, self.zeros, 0, info.min, info.max, integers.dtype)
        if self.rounds_weights and integers is self.weight:
            integers = _OPS.quantize_per_channel(self.rounded, *how)
        restored: Tensor = _OPS.dequantize_per_channel(integers, *how)
        return restored

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        """Moves are followed, casts are not: integers stay integers and float32 scales are what the file will hold."""
        return self


def quantize_network(folded: Network, recipe: Recipe, placement: QuantScheme) -> Network:
    """A copy of a folded network, quantized. Raises KeyError where the recipe lacks a point that the placement needs."""
    return replace_layers(
        folded,
        recipe,
        placement,
        lambda scale, seven_bits: QuantizePoint(scale, placement.activations, seven_bits),
        lambda layer, source: QuantizedLayer(layer, source, recipe.weight_bits, placement),
    )


def replace_layers(
    folded: Network,
    recipe: Recipe,
    placement: QuantScheme,
    make_point: Callable[[float, bool], P],
    make_layer: Callable[[Layer, P | None], nn.Module],
) -> Network:
    """A copy of a folded network with modules of the caller's wherever the recipe and the placement round.

    make_point: of a scale, and whether to 7 bits. make_layer: of a layer, and of the point of its input, None where activations stay.
    """
    network = copy.deepcopy(folded)
    units = quantized_units(folded, recipe, placement)
    for name, layer in list(quantizable_layers(network)):
        if name not in units:
            continue
        point = (
            None
            if recipe.weights_only
            else make_point(recipe.scales[input_point(network, name)], False)
        )
        made = make_layer(layer, point)
        if point is not None and placement.rounds_output(isinstance(layer, nn.Conv2d)):
            made = nn.Sequential(made, make_point(recipe.scales[f"{name}:out"], False))
        replace_module(network, name, made)
    for name, attention in list(attention_modules(network)):
        if name in units:
            for part in ("qkv.q", "qkv.k", "qkv.v", "softmax"):
                inner = attention.get_submodule(part)
                if isinstance(inner, nn.Sequential):  # its result is rounded already
                    inner = inner[0]
                point = make_point(recipe.scales[f"{name}.{part}:out"], part in SEVEN_BITS)
                replace_module(attention, part, nn.Sequential(inner, point))
    return network


def quantized_units(folded: nn.Module, recipe: Recipe, placement: QuantScheme) -> list[str]:
    """The layers, and the attentions whose products, become int8."""
    names = [name for name, _ in quantizable_layers(folded)]
    if placement.attention and not recipe.weights_only:
        names += [name for name, _ in attention_modules(folded)]
    return [name for name in names if name not in recipe.float_units]


def with_exact_arithmetic(network: Network) -> Network:
    """The same numbers in float64, in which sums of products of integers and their scales are exact to 15 digits:
    what any right engine computes, whatever its kernels."""
    return copy.deepcopy(network).double()


def quantizable_layers(network: nn.Module) -> Iterator[tuple[str, Layer]]:
    """(name, layer) of every layer that a recipe may quantize."""
    for name, module in network.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and not name.endswith(FLOAT_LAYERS):
            yield name, module


def attention_modules(network: nn.Module) -> Iterator[tuple[str, Attention]]:
    """(name, module) of every attention."""
    for name, module in network.named_modules():
        if isinstance(module, Attention):
            yield name, module


def input_point(network: nn.Module, name: str) -> str:
    """The point of a layer's input: queries, keys and values share one."""
    parent = name.rpartition(".")[0]
    return (
        f"{parent}:in"
        if isinstance(network.get_submodule(parent), SplitProjection)
        else f"{name}:in"
    )


def replace_module(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of the one called `name`."""
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module)


def weight_scales(weight: Tensor, largest: int) -> Tensor:
    """One scale an output channel, (outputs,): its largest weight becomes the integer `largest`."""
    return (weight.flatten(1).abs().amax(1) / largest).clamp_min(1e-12)


def _along(scales: Tensor, weight: Tensor) -> Tensor:
    """Scales of the output channels, shaped to multiply a weight or bias."""
    return scales.reshape(-1, *[1] * (weight.ndim - 1))
