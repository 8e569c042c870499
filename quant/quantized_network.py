"""Builds the int8 network: copies a float32 network and replaces its layers by quantized layers.

The copy is made from three things:

- the folded network: the float32 network in which BatchNorms, and the scale and shift of
  LayerNorms, are merged into the neighboring layers (`tinyvit.nn.fold`);
- a recipe (`tinyvit.quant.recipe`): the scales of the activations and the number of bits of
  the weights;
- a scheme (`tinyvit.quant_scheme`): which tensors the engine of one export target quantizes.

A quantized tensor is written as a quantize operator followed by a dequantize operator. torch.export
keeps such pairs, every converter reads them, and engines fuse them into integer kernels. A unit is
a part of the network that is quantized as a whole: one layer, or the two matrix products of one
attention module (query x key and softmax x value). It has the name of its module.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TypeVar

from torch import nn

from tinyvit.nn.attention import Attention
from tinyvit.quant.channel_ranges.channel_scales import (
    OUTPUT,
    remove_unused_scales,
    scaled_layer_name,
)
from tinyvit.quant.quantized_layers import ActivationQuantizer, Layer, QuantizedLayer
from tinyvit.quant.recipe import Recipe
from tinyvit.quant.tensor_points import layer_input_point, quantize_every_tensor
from tinyvit.quant_scheme import FLOAT_LAYERS, QuantScheme

SEVEN_BIT_OPERANDS = ("qkv.k", "qkv.v")
"""Submodules of an attention module whose outputs are quantized to 7 bits: keys and values. They
are the second operands of attention's matrix products, like the weights of a layer, and 7 bits keep
the sums of products from saturating on any processor (docs/lab-notes/int8.md)."""

Network = TypeVar("Network", bound=nn.Module)
Quantizer = TypeVar("Quantizer", bound=nn.Module)

_ATTENTION_PARTS = ("qkv.q", "qkv.k", "qkv.v", "softmax")
"""Submodules of an attention module whose outputs are the operands of its two products."""


def quantize_network(folded: Network, recipe: Recipe, scheme: QuantScheme) -> Network:
    """Return a quantized copy of a network.

    Args:
        folded: The folded float32 network. It is not changed.
        recipe: The recipe that was calibrated on this network.
        scheme: Which tensors the target's engine quantizes, and whether weights and biases are
            stored as integers or as float32.

    Raises:
        KeyError: The recipe has no scale for a tensor that the scheme quantizes.
    """
    if scheme.every_tensor:
        return quantize_every_tensor(folded, recipe, scheme)

    def make_quantizer(scale: float, seven_bits: bool) -> ActivationQuantizer:
        return ActivationQuantizer(scale, scheme.activations, seven_bits)

    def make_layer(layer: Layer, input_quantizer: ActivationQuantizer | None) -> QuantizedLayer:
        return QuantizedLayer(layer, input_quantizer, recipe.weight_bits, scheme)

    return replace_layers(folded, recipe, scheme, make_quantizer, make_layer)


def replace_layers(
    folded: Network,
    recipe: Recipe,
    scheme: QuantScheme,
    make_quantizer: Callable[[float, bool], Quantizer],
    make_layer: Callable[[Layer, Quantizer | None], nn.Module],
) -> Network:
    """Return a copy of a network with other modules wherever it is quantized.

    Each quantized layer is replaced by a module from `make_layer`. Each module whose output is an
    operand of a quantized matrix product of attention is followed by one from `make_quantizer`; so
    is each quantized layer whose output is quantized too.

    Export and quantization-aware training share this function and make different modules.

    Args:
        folded: The folded float32 network. It is not changed.
        recipe: The recipe, which contains the scales of the activations and the names of the units
            that stay float32.
        scheme: Which tensors the target's engine quantizes.
        make_quantizer: Makes the module that quantizes activations. Its arguments are the scale,
            and whether the integers have 7 bits instead of 8.
        make_layer: Makes the module that replaces a layer. Its arguments are the layer and the
            module that quantizes the layer's input, or None if activations stay float32.

    Raises:
        KeyError: The recipe has no scale for a tensor that the scheme quantizes.
    """
    network = without_unused_scales(folded, recipe, scheme)
    units = quantized_units(folded, recipe, scheme)
    for name, layer in list(quantizable_layers(network)):
        if name not in units:
            continue
        input_quantizer = None
        if not recipe.weights_only:
            scale = recipe.scales[layer_input_point(network, name)]
            input_quantizer = make_quantizer(scale, False)  # 8 bits
        replacement = make_layer(layer, input_quantizer)
        is_convolution = isinstance(layer, nn.Conv2d)
        if input_quantizer is not None and scheme.quantizes_output(is_convolution):
            output_quantizer = make_quantizer(recipe.scales[f"{name}:out"], False)  # 8 bits
            replacement = nn.Sequential(replacement, output_quantizer)
        replace_module(network, name, replacement)
    for name, attention in list(attention_modules(network)):
        if name in units:
            _quantize_operands(attention, name, recipe, make_quantizer)
    return network


def without_unused_scales(folded: Network, recipe: Recipe, scheme: QuantScheme) -> Network:
    """Return a copy of an equalized network that multiplies channels only where they are quantized.

    Args:
        folded: The folded float32 network. It is not changed.
        recipe: The recipe, whose `float_units` stay float32.
        scheme: Which tensors the target's engine quantizes.
    """
    network = copy.deepcopy(folded)
    units = {*quantized_units(folded, recipe, scheme)}

    def is_used(name: str) -> bool:
        layer = scaled_layer_name(name)
        if layer not in units or recipe.weights_only:
            return False
        is_convolution = isinstance(folded.get_submodule(layer), nn.Conv2d)
        return not name.endswith(OUTPUT) or scheme.quantizes_output(is_convolution)

    remove_unused_scales(network, is_used)
    return network


def quantized_units(folded: nn.Module, recipe: Recipe, scheme: QuantScheme) -> list[str]:
    """List the units that become int8.

    Args:
        folded: The folded float32 network.
        recipe: The recipe. Its `float_units` are not in the list.
        scheme: Which tensors the target's engine quantizes.

    Returns:
        The names of the layers that become int8, followed by the names of the attention modules
        whose two matrix products become int8.
    """
    names = [name for name, _ in quantizable_layers(folded)]
    if (scheme.attention or scheme.every_tensor) and not recipe.weights_only:
        names += [name for name, _ in attention_modules(folded)]
    return [name for name in names if name not in recipe.float_units]


def with_exact_arithmetic(network: Network) -> Network:
    """Return a copy of a quantized network that computes in float64.

    The rounding error of float64 is negligible, so the copy computes what ideal integer kernels
    would compute. The outputs of every engine are compared with it.

    Args:
        network: A network that `quantize_network` returned. It is not changed.
    """
    return copy.deepcopy(network).double()


def quantizable_layers(network: nn.Module) -> Iterator[tuple[str, Layer]]:
    """Yield the name and the module of every layer that may be quantized.

    Args:
        network: The folded float32 network.
    """
    for name, module in network.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and not name.endswith(FLOAT_LAYERS):
            yield name, module


def attention_modules(network: nn.Module) -> Iterator[tuple[str, Attention]]:
    """Yield the name and the module of every attention module.

    Args:
        network: The folded or the quantized network.
    """
    for name, module in network.named_modules():
        if isinstance(module, Attention):
            yield name, module


def replace_module(root: nn.Module, name: str, module: nn.Module) -> None:
    """Replace a submodule.

    Args:
        root: The module that contains the submodule at any depth.
        name: The path of the submodule within `root`, such as "stages.0.blocks.1.conv2".
        module: The new module.
    """
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module)


def _quantize_operands(
    attention: Attention,
    name: str,
    recipe: Recipe,
    make_quantizer: Callable[[float, bool], Quantizer],
) -> None:
    """Quantize each operand of an attention module's two matrix products."""
    for part in _ATTENTION_PARTS:
        module = attention.get_submodule(part)
        if isinstance(module, nn.Sequential):
            # The scheme quantizes outputs, so this is a layer followed by an 8-bit quantizer. The
            # quantizer made below replaces that one: keys and values need 7 bits, and quantizing a
            # tensor twice has no use.
            module = module[0]
        quantizer = make_quantizer(recipe.scales[f"{name}.{part}:out"], part in SEVEN_BIT_OPERANDS)
        replace_module(attention, part, nn.Sequential(module, quantizer))
