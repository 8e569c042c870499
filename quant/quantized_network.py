"""Applies a recipe: copies the folded network and replaces its layers by quantized ones.

Quantized values are written as pairs of a quantize and a dequantize operator. torch.export keeps
such pairs, every converter reads them, and engines fuse them into integer kernels. In float64 the
same network computes exactly what the integers stand for (`with_exact_arithmetic`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TypeVar

from torch import nn

from tinyvit.nn.model import Attention, SplitProjection
from tinyvit.quant.quantized_layers import Layer, QuantizedLayer, QuantizePoint
from tinyvit.quant.recipe import Recipe
from tinyvit.quant_scheme import FLOAT_LAYERS, QuantScheme

SEVEN_BIT_OPERANDS = ("qkv.k", "qkv.v")
"""Submodules of an attention whose outputs have 7 bits. Keys and values are what attention's
products have in place of weights: with 7 bits no sum saturates on any processor (docs/int8.md)."""

Network = TypeVar("Network", bound=nn.Module)
Point = TypeVar("Point", bound=nn.Module)

_ATTENTION_PARTS = ("qkv.q", "qkv.k", "qkv.v", "softmax")
"""Submodules of an attention whose outputs are the operands of its two products."""


def quantize_network(folded: Network, recipe: Recipe, scheme: QuantScheme) -> Network:
    """Return a quantized copy of a network.

    Args:
        folded: The float32 network after folding.
        recipe: The recipe that was calibrated on this network.
        scheme: Where the target's engine rounds, and in which form.

    Raises:
        KeyError: The recipe lacks a quantization point that the scheme needs.
    """

    def make_point(scale: float, seven_bits: bool) -> QuantizePoint:
        return QuantizePoint(scale, scheme.activations, seven_bits)

    def make_layer(layer: Layer, input_point: QuantizePoint | None) -> QuantizedLayer:
        return QuantizedLayer(layer, input_point, recipe.weight_bits, scheme)

    return replace_layers(folded, recipe, scheme, make_point, make_layer)


def replace_layers(
    folded: Network,
    recipe: Recipe,
    scheme: QuantScheme,
    make_point: Callable[[float, bool], Point],
    make_layer: Callable[[Layer, Point | None], nn.Module],
) -> Network:
    """Return a copy of a network with other modules wherever recipe and scheme round.

    Args:
        folded: The float32 network after folding.
        recipe: Which units are quantized, and the scale of every point.
        scheme: Where the target's engine rounds.
        make_point: Makes the module that rounds activations, from the scale and from whether the
            range has 7 bits.
        make_layer: Makes the module that replaces a layer, from the layer and from the point of its
            input. The point is None where activations stay float32.

    Raises:
        KeyError: The recipe lacks a quantization point that the scheme needs.
    """
    network = copy.deepcopy(folded)
    units = quantized_units(folded, recipe, scheme)
    for name, layer in list(quantizable_layers(network)):
        if name not in units:
            continue
        point = None
        if not recipe.weights_only:
            point = make_point(recipe.scales[input_point_name(network, name)], False)
        replacement = make_layer(layer, point)
        if point is not None and scheme.quantizes_output(isinstance(layer, nn.Conv2d)):
            output_point = make_point(recipe.scales[f"{name}:out"], False)
            replacement = nn.Sequential(replacement, output_point)
        replace_module(network, name, replacement)
    for name, attention in list(attention_modules(network)):
        if name in units:
            _round_operands(attention, name, recipe, make_point)
    return network


def quantized_units(folded: nn.Module, recipe: Recipe, scheme: QuantScheme) -> list[str]:
    """List the layers, and the attentions whose two products, become int8.

    Args:
        folded: The float32 network after folding.
        recipe: The recipe. Its `float_units` are left out.
        scheme: Where the target's engine rounds.

    Returns:
        The names of the modules.
    """
    names = [name for name, _ in quantizable_layers(folded)]
    if scheme.attention and not recipe.weights_only:
        names += [name for name, _ in attention_modules(folded)]
    return [name for name in names if name not in recipe.float_units]


def with_exact_arithmetic(network: Network) -> Network:
    """Return a copy of a quantized network that computes in float64.

    Sums of products of the integers and their scales are then exact to 15 digits. Every correct
    engine computes the same, whatever its kernels are.

    Args:
        network: A network that `quantize_network` returned.
    """
    return copy.deepcopy(network).double()


def quantizable_layers(network: nn.Module) -> Iterator[tuple[str, Layer]]:
    """Yield the name and the module of every layer that a recipe may quantize.

    Args:
        network: The float32 network after folding.
    """
    for name, module in network.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and not name.endswith(FLOAT_LAYERS):
            yield name, module


def attention_modules(network: nn.Module) -> Iterator[tuple[str, Attention]]:
    """Yield the name and the module of every attention.

    Args:
        network: The network.
    """
    for name, module in network.named_modules():
        if isinstance(module, Attention):
            yield name, module


def input_point_name(network: nn.Module, name: str) -> str:
    """Return the name of the quantization point of a layer's input.

    Args:
        network: The float32 network after folding.
        name: The name of a layer. The query, key and value layers of an attention share one point.
    """
    parent = name.rpartition(".")[0]
    is_shared = isinstance(network.get_submodule(parent), SplitProjection)
    return f"{parent if is_shared else name}:in"


def replace_module(root: nn.Module, name: str, module: nn.Module) -> None:
    """Replace a submodule.

    Args:
        root: The module that contains it.
        name: The path of the submodule within `root`.
        module: The new module.
    """
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module)


def _round_operands(
    attention: Attention, name: str, recipe: Recipe, make_point: Callable[[float, bool], Point]
) -> None:
    """Add a point after each operand of an attention's two products."""
    for part in _ATTENTION_PARTS:
        module = attention.get_submodule(part)
        if isinstance(module, nn.Sequential):
            # The scheme already rounds the output of this layer: rounding it twice has no use.
            module = module[0]
        point = make_point(recipe.scales[f"{name}.{part}:out"], part in SEVEN_BIT_OPERANDS)
        replace_module(attention, part, nn.Sequential(module, point))
