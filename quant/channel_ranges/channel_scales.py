"""Rescales the channels of tensors between two layers, with a multiplication of their own.

A tensor has one scale, so its small channels get few integers if other channels are much larger.
The layers next to a GELU cannot take over the factors of equalization, because GELU(s x) is not
s GELU(x), and a residual sum has no layer of its own. There, a `ChannelScale` multiplies the
channels right before a layer, whose columns are divided ("..._input"), or right after a layer,
whose rows are divided ("..._output"), as SmoothQuant does where no LayerNorm can take the factors.

The factors are powers of two, so that dividing the weights has no rounding error, and a
multiplication that a target does not need can be moved back into the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from tinyvit.nn.layers import ChannelScale, ScalePoint

MAX_EXPONENT = 12
"""Largest absolute value of an exponent: factors are from 2^-12 to 2^12."""
INPUT, OUTPUT = "_input", "_output"
"""Endings of the names of modules that rescale the input and the output of a layer."""


def scaled_layer_name(point: str) -> str:
    """Return the name of the layer whose input or output a module rescales.

    Args:
        point: Name of a `ScalePoint` or `ChannelScale`.
    """
    return point.removesuffix(INPUT).removesuffix(OUTPUT)


def find_scale_points(network: nn.Module) -> Iterator[str]:
    """Yield the names of the tensors that can be rescaled.

    Args:
        network: The folded float32 network.
    """
    for name, module in network.named_modules():
        if isinstance(module, ScalePoint):
            yield name


@torch.no_grad()
def rescale_channels(network: nn.Module, exponents: Mapping[str, tuple[int, ...]]) -> None:
    """Rescale the channels of tensors, without changing what the network computes.

    Args:
        network: The folded float32 network, which is changed.
        exponents: Exponents e of the factors 2^e, by the name of the `ScalePoint`.

    Raises:
        ValueError: There is no such tensor, or it has another number of channels.
    """
    modules = dict(network.named_modules())
    for name, values in exponents.items():
        layer = modules.get(scaled_layer_name(name))
        is_valid = isinstance(modules.get(name), ScalePoint) and layer is not None
        if not is_valid or not all(abs(value) <= MAX_EXPONENT for value in values):
            raise ValueError(f"the equalization of {name} does not fit the network")
        assert layer is not None
        factors = torch.tensor([2.0**value for value in values])
        if len(factors) != _count_channels(layer, name):
            raise ValueError(f"the equalization of {name} does not fit the network")
        _multiply_weights(layer, 1 / factors, name)
        is_map = isinstance(layer, nn.Conv2d)
        _replace(network, name, ChannelScale(factors, is_map))


@torch.no_grad()
def remove_unused_scales(network: nn.Module, is_used: Callable[[str], bool]) -> None:
    """Move factors back into the weights wherever the tensor is not quantized.

    Args:
        network: The equalized float32 network, which is changed.
        is_used: Returns whether a tensor is quantized, given the name of its `ChannelScale`.
    """
    for name, module in list(network.named_modules()):
        if isinstance(module, ChannelScale) and not is_used(name):
            layer = network.get_submodule(scaled_layer_name(name))
            _multiply_weights(layer, module.factors.flatten(), name)
            _replace(network, name, ScalePoint())


def _count_channels(layer: nn.Module, name: str) -> int:
    """Return the number of channels of the input or the output of a layer."""
    weight = layer.get_parameter("weight")
    if name.endswith(OUTPUT) or is_depthwise(layer):
        return len(weight)
    return weight.shape[1]


def _multiply_weights(layer: nn.Module, factors: Tensor, name: str) -> None:
    """Multiply the columns of a layer, or, if its output is rescaled, its rows and its bias."""
    weight, bias = layer.get_parameter("weight"), getattr(layer, "bias", None)
    if name.endswith(INPUT) and not is_depthwise(layer):
        weight.mul_(factors.reshape(1, -1, *[1] * (weight.ndim - 2)))
        return
    weight.mul_(factors.reshape(-1, *[1] * (weight.ndim - 1)))
    if bias is not None and name.endswith(OUTPUT):
        bias.mul_(factors)


def is_depthwise(layer: nn.Module) -> bool:
    """Return whether each output channel of a layer is computed from one input channel.

    Args:
        layer: A linear layer or a convolution.
    """
    return isinstance(layer, nn.Conv2d) and layer.groups > 1


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    """Replace a submodule at any depth."""
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module)
