"""Quantizes every tensor of a network, as NPUs need it.

Most engines quantize only the inputs, and perhaps the outputs, of layers, and compute everything
else in float32. An NPU computes in integers throughout: a tensor that is not quantized sends the
operators around it to the CPU. This module lists all tensors of a network, for calibration, and
replaces modules so that each tensor is quantized where it is computed.

A tensor is named like every quantization point (`tinyvit.quant.recipe`). Tensors that no layer
computes, such as sums, have a module of their own (`tinyvit.nn.layers.TensorPoint`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from tinyvit.nn.attention import Attention, SplitProjection
from tinyvit.nn.layers import MBConv, Mlp, TensorPoint
from tinyvit.quant.quantized_layers import ActivationQuantizer, Layer, QuantizedLayer
from tinyvit.quant.recipe import Recipe
from tinyvit.quant_scheme import Activations, QuantScheme

RANGE_MARGIN = 2.0
"""Largest absolute value of 16-bit integers, as a multiple of the largest one of the calibration
images. An image with larger values would saturate them, and of 16 bits one is easily spared."""

_SIXTEEN_BIT_LIMIT = 32767
"""Largest integer of 16 bits, apart from the zero point."""
_SOFTMAX_RANGE = 1.0
"""Largest value of a softmax."""
_ATTENTION_POINTS = ("expanded_biases", "scores", "softmax", "weighted_sums")
"""Submodules of an attention module that compute or name a tensor of its two products."""

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class ObservedTensor:
    """A tensor of the network whose values an observer collects.

    Attributes:
        module: The module that has the tensor as its first input or as its output.
        is_input: Whether the tensor is the first input.
    """

    module: nn.Module
    is_input: bool


def all_layers(network: nn.Module) -> Iterator[tuple[str, Layer]]:
    """Yield the name and the module of every linear layer and convolution.

    Args:
        network: The folded float32 network.
    """
    for name, module in network.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and hasattr(module, "weight"):
            yield name, module


def layer_input_point(network: nn.Module, name: str) -> str:
    """Return the name of the point that is the input of a layer.

    The query, key and value layers of one attention module have the same input and share one point.

    Args:
        network: The folded float32 network.
        name: The name of a layer.
    """
    parent = name.rpartition(".")[0]
    if isinstance(network.get_submodule(parent), SplitProjection):
        return f"{parent}:in"
    return f"{name}:in"


def find_every_tensor(folded: nn.Module) -> dict[str, ObservedTensor]:
    """Return every tensor of a network that is quantized if all are, by the name of its point.

    Args:
        folded: The folded float32 network.

    Returns:
        The tensors.
    """
    tensors: dict[str, ObservedTensor] = {}
    for name, layer in all_layers(folded):
        point = layer_input_point(folded, name)
        module = folded.get_submodule(point.rpartition(":")[0])
        tensors.setdefault(point, ObservedTensor(module, is_input=True))
        tensors[f"{name}:out"] = ObservedTensor(layer, is_input=False)
    for name, module in folded.named_modules():
        if isinstance(module, nn.LayerNorm):
            tensors[f"{name}:out"] = ObservedTensor(module, is_input=False)
        elif isinstance(module, Attention):
            tensors[f"{name}.softmax:in"] = ObservedTensor(module.softmax, is_input=True)
            tensors[f"{name}.softmax:out"] = ObservedTensor(module.softmax, is_input=False)
        elif isinstance(module, TensorPoint) and _is_computed(folded, name):
            tensors[f"{name}:out"] = ObservedTensor(module, is_input=False)
    for name in _norms_after_mean(folded):
        tensors[f"{name}:in"] = ObservedTensor(folded.get_submodule(name), is_input=True)
    return tensors


def quantize_every_tensor(folded: Network, recipe: Recipe, scheme: QuantScheme) -> Network:
    """Return a copy of a network in which every tensor is quantized.

    Args:
        folded: The folded float32 network. It is not changed.
        recipe: The recipe, with the points of `find_every_tensor`. The layers and the attention
            products of its `float_units` stay float32; that is only for measuring sensitivity,
            because no engine runs such a network.
        scheme: The scheme, whose `every_tensor` is true.

    Raises:
        KeyError: The recipe has no scale for a tensor.
    """
    network = copy.deepcopy(folded)
    quantizers = _QuantizerFactory(recipe, scheme.activations)
    weight_bits = scheme.choose_weight_bits(recipe.weight_bits)
    for name, layer in list(all_layers(network)):
        if name not in recipe.float_units:
            input_quantizer = quantizers.make(layer_input_point(network, name))
            quantized = QuantizedLayer(layer, input_quantizer, weight_bits, scheme)
            is_operand = _is_operand(network, name)
            output_quantizers = quantizers.make_all(f"{name}:out", is_operand)
            _replace(network, name, nn.Sequential(quantized, *output_quantizers))
    float_modules = {f"{unit}.{part}" for unit in recipe.float_units for part in _ATTENTION_POINTS}
    for name, module in list(folded.named_modules()):
        if name in float_modules:
            continue
        if isinstance(module, TensorPoint) and _is_computed(folded, name):
            _replace(network, name, quantizers.make(f"{name}:out"))
        elif isinstance(module, (nn.LayerNorm, nn.Softmax)):
            modules = [network.get_submodule(name), quantizers.make(f"{name}:out")]
            if isinstance(module, nn.Softmax) or name in _norms_after_mean(folded):
                modules.insert(0, quantizers.make(f"{name}:in"))
            _replace(network, name, nn.Sequential(*modules))
    return network


@dataclass(frozen=True)
class _QuantizerFactory:
    """Makes the quantizers of a network.

    Attributes:
        recipe: The recipe with the scales and ranges.
        activations: The integer type.
    """

    recipe: Recipe
    activations: Activations

    def make(self, point: str) -> ActivationQuantizer:
        """Return the quantizer of a point."""
        smallest, largest = self.recipe.ranges[point]
        if self.activations != "uint16":
            return self._make_for_range(smallest, largest, self.recipe.scales[point])
        is_softmax = point.endswith(".softmax:out")
        limit = _SOFTMAX_RANGE if is_softmax else max(-smallest, largest) * RANGE_MARGIN
        return ActivationQuantizer(limit / _SIXTEEN_BIT_LIMIT, self.activations)

    def _make_for_range(self, smallest: float, largest: float, scale: float) -> ActivationQuantizer:
        """Return an 8-bit quantizer whose integers represent a range.

        The results of GELU and softmax have no large negative values. With a zero point of 128,
        half of the integers would be unused.

        Args:
            smallest: Smallest value of the tensor, at most 0.
            largest: Largest value of the tensor, above 0.
            scale: The scale with which the integers from -128 to 127 represent the tensor best;
                values beyond them are outliers.
        """
        smallest, largest = max(smallest, -128 * scale), min(largest, 127 * scale)
        step = (largest - smallest) / 255
        return ActivationQuantizer(step, self.activations, zero_point=round(-smallest / step))

    def make_all(self, point: str, is_operand: bool) -> list[ActivationQuantizer]:
        """Return the quantizers of the output of a layer, of which keys and values may have two.

        Hexagon multiplies 16-bit integers by 8-bit ones exactly, but not by 16-bit ones, so keys
        and values have 8 bits. Qualcomm's compiler takes a layer only if its output has as many
        bits as its input, so 16-bit keys and values are converted by a second quantizer
        (docs/lab-notes/npus.md). The recipe has a scale of 7 bits for them; half of it gives 8 bits
        the same range.
        """
        if not is_operand:
            return [self.make(point)]
        eight_bits = ActivationQuantizer(self.recipe.scales[point] / 2, "uint8")
        return [self.make(point), eight_bits] if self.activations == "uint16" else [eight_bits]


def _is_operand(network: nn.Module, name: str) -> bool:
    """Return whether a layer computes the keys or the values of an attention module."""
    parent, _, child = name.rpartition(".")
    is_projection = isinstance(network.get_submodule(parent), SplitProjection)
    return is_projection and child in ("k", "v")


def _is_computed(folded: nn.Module, name: str) -> bool:
    """Return whether the network computes the tensor that a `TensorPoint` names."""
    parent_name, _, child = name.rpartition(".")
    parent = folded.get_submodule(parent_name)
    if isinstance(parent, (MBConv, Mlp)) and child == "outlier_sum":
        return parent.outliers is not None
    return True


def _norms_after_mean(folded: nn.Module) -> list[str]:
    """Return the LayerNorms whose input is not quantized where it is computed: that of the head."""
    return [name for name, _ in folded.named_modules() if name == "head.norm"]


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    """Replace a submodule at any depth."""
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module)
