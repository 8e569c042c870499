"""Equalization: rewrites a network so that channels of quantized tensors have similar ranges.

An activation tensor has one scale, so a few channels with 30 to 100 times the range of the others
leave only a few integers for those. Equalization keeps the function that the network computes, and
changes five kinds of places in the folded network:

- The channels of queries are multiplied and those of keys are divided by the same factors, and the
  channels of values are multiplied and the columns of the output projection divided. This is
  cross-layer equalization (Nagel et al., "Data-Free Quantization Through Weight Equalization and
  Bias Correction", ICCV 2019).
- A LayerNorm whose output has outlier channels gets a scale, and the columns of the linear layer
  after it are divided by it, as in SmoothQuant (Xiao et al., ICML 2023).
- A constant offset of the input of a downsampling is removed from the bias of the layer before, and
  is added in the bias of the layer after (bias absorption, Nagel et al.).
- Hidden channels between two GELUs cannot be rescaled in this way, because GELU(s x) is not
  s GELU(x). If a few of them are outliers, they get layers of their own (`outliers` of `Mlp` and
  `MBConv`), which are quantized with scales of their own.
- Other tensors with outlier channels are multiplied right before or after a layer
  (`quant.channel_ranges.channel_scales`).

The factors are powers of two, so rescaled weights have no rounding error. Places without outliers
stay as they are: a network without any is quantized as if there were no equalization.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tinyvit.nn.attention import Attention, SplitProjection
from tinyvit.nn.layers import MBConv, Mlp
from tinyvit.nn.model import AttentionStage, Block, TinyViT
from tinyvit.quant.channel_ranges.channel_scales import MAX_EXPONENT, rescale_channels

MAX_OFFSET = 1e6
"""Largest absolute value of an offset. With larger ones, float32 loses the rest of the tensor."""


@dataclass(frozen=True)
class Equalization:
    """The changes that equalization makes to one folded network.

    Attributes:
        exponents: Exponents e of the factors 2^e by which the channels of a tensor are multiplied,
            by the name of the module that computes it: the layer of the queries (keys are divided),
            the layer of the values, or a LayerNorm (the columns of the next layer are divided).
        offsets: Constants that are subtracted from the channels of the input of a layer, by the
            name of the layer: the first layer of a downsampling.
        outliers: Hidden channels that get layers of their own, by the name of the `Mlp` or
            `MBConv`; a channel is a row of its first layer.
        scales: Exponents e of the factors 2^e by which the channels of the input or the output of a
            layer are multiplied there, by the name of the layer and "_input" or "_output" (the
            columns, or the rows, of the layer are divided). Applied after all other changes.
    """

    exponents: dict[str, tuple[int, ...]] = field(default_factory=dict)
    offsets: dict[str, tuple[float, ...]] = field(default_factory=dict)
    outliers: dict[str, tuple[int, ...]] = field(default_factory=dict)
    scales: dict[str, tuple[int, ...]] = field(default_factory=dict)


@torch.no_grad()
def equalize_network(folded: TinyViT, equalization: Equalization) -> TinyViT:
    """Apply equalization to a network.

    Args:
        folded: The folded float32 network. It is not changed.
        equalization: What `find_equalization` chose for this network.

    Returns:
        A copy that computes the same logits, apart from rounding.

    Raises:
        ValueError: The equalization is not for this network.
    """
    network = copy.deepcopy(folded)
    modules = dict(network.named_modules())
    for name, exponents in equalization.exponents.items():
        _require(all(abs(exponent) <= MAX_EXPONENT for exponent in exponents), name)
        factors = torch.tensor([2.0**exponent for exponent in exponents])
        parent = modules.get(name.rpartition(".")[0].removesuffix(".qkv"))
        if isinstance(parent, (Attention, Mlp)) and name.endswith(".norm"):
            _rescale_norm(parent, factors, name)
        else:
            _require(isinstance(parent, Attention), name)
            assert isinstance(parent, Attention)
            _rescale_projection(parent, factors, name)
    for name, offsets in equalization.offsets.items():
        _require(name in find_downsampling(network), name)
        _absorb_offsets(*find_downsampling(network)[name], offsets, name)
    for name, channels in equalization.outliers.items():
        block = modules.get(name)
        _require(isinstance(block, (MBConv, Mlp)), name)
        assert isinstance(block, (MBConv, Mlp))
        _separate_outliers(block, channels, name)
    rescale_channels(network, equalization.scales)
    return network


def _require(is_valid: bool, name: str) -> None:
    """Raise ValueError unless an entry of an equalization fits the network."""
    if not is_valid:
        raise ValueError(f"the equalization of {name} does not fit the network")


def find_downsampling(folded: TinyViT) -> dict[str, tuple[nn.Linear, nn.Conv2d]]:
    """Return the layers around each input of a downsampling to which a constant can be added.

    Args:
        folded: The folded float32 network.

    Returns:
        The last layer of the stage before, and the first layer of the downsampling, by the name of
        the latter. The input of the first downsampling comes from a GELU, so it is left out. So is
        an input that the network also returns as a feature map, which the constant would change.
    """
    layers = {}
    for index in range(2, len(folded.stages)):
        if index - 1 in folded.feature_stages:
            continue
        stage_before, stage = folded.stages[index - 1], folded.stages[index]
        assert isinstance(stage_before, AttentionStage)
        assert isinstance(stage, AttentionStage)
        block = stage_before.blocks[-1]
        assert isinstance(block, Block)
        convolution: nn.Module = stage.downsample.conv1  # It was a `ConvNorm` before folding.
        assert isinstance(convolution, nn.Conv2d)
        layers[f"stages.{index}.downsample.conv1"] = (block.mlp.fc2, convolution)
    return layers


def _rescale_norm(parent: Attention | Mlp, factors: Tensor, name: str) -> None:
    """Multiply the channels of a LayerNorm, and divide the columns of the layers after it."""
    _require(len(factors) == parent.norm.normalized_shape[0], name)
    norm = nn.LayerNorm(parent.norm.normalized_shape, parent.norm.eps)
    norm.weight.copy_(factors)
    parent.norm = norm.requires_grad_(False)
    for layer in _layers_after_norm(parent):
        layer.weight.div_(factors)


def _rescale_projection(attention: Attention, factors: Tensor, name: str) -> None:
    """Multiply the channels of queries or values, and divide those of keys or the columns after."""
    split = attention.qkv
    _require(
        isinstance(split, SplitProjection) and len(factors) == attention.proj.in_features, name
    )
    assert isinstance(split, SplitProjection)
    if name.endswith(".qkv.q"):
        _multiply_rows(split.q, factors)
        _multiply_rows(split.k, 1 / factors)
    else:
        _require(name.endswith(".qkv.v"), name)
        _multiply_rows(split.v, factors)
        attention.proj.weight.div_(factors)


def _layers_after_norm(parent: Attention | Mlp) -> tuple[nn.Linear, ...]:
    """Return the linear layers that use the output of the LayerNorm of a module."""
    if isinstance(parent, Mlp):
        return (parent.fc1,)
    assert isinstance(parent.qkv, SplitProjection)
    return parent.qkv.q, parent.qkv.k, parent.qkv.v


def _multiply_rows(layer: nn.Linear, factors: Tensor) -> None:
    """Multiply the outputs of a linear layer."""
    layer.weight.mul_(factors[:, None])
    if layer.bias is not None:
        layer.bias.mul_(factors)


def _absorb_offsets(
    before: nn.Linear, after: nn.Conv2d, offsets: tuple[float, ...], name: str
) -> None:
    """Subtract constants from the output of one layer, and add their effect to the next."""
    is_possible = all(abs(offset) <= MAX_OFFSET for offset in offsets)
    _require(is_possible and len(offsets) == after.in_channels, name)
    constants = torch.tensor(offsets, dtype=torch.float64)
    assert after.bias is not None
    before.bias.copy_(before.bias.double() - constants)
    after.bias.copy_(after.bias.double() + after.weight.double().flatten(1) @ constants)


def _separate_outliers(block: MBConv | Mlp, channels: tuple[int, ...], name: str) -> None:
    """Move hidden channels of a block into layers of their own."""
    names = ("fc1", "fc2") if isinstance(block, Mlp) else ("conv1", "conv2", "conv3")
    layers = [block.get_submodule(layer) for layer in names]
    count = len(layers[0].get_parameter("weight"))
    is_valid = list(channels) == sorted({*channels}) and 0 < len(channels) < count
    _require(is_valid and channels[0] >= 0 and channels[-1] < count, name)
    is_outlier = torch.zeros(count, dtype=torch.bool)
    is_outlier[list(channels)] = True
    branch: list[tuple[str, nn.Module]] = []
    for position, (layer_name, layer) in enumerate(zip(names, layers, strict=True)):
        is_last = position == len(layers) - 1
        setattr(block, layer_name, _take_channels(layer, ~is_outlier, is_last, keeps_bias=True))
        outlier_layer = _take_channels(layer, is_outlier, is_last, keeps_bias=not is_last)
        branch += [(layer_name, outlier_layer)]
        if not is_last:
            branch += [(f"gelu{position + 1}", nn.GELU())]
    block.outliers = nn.Sequential(OrderedDict(branch))


def _take_channels(
    layer: nn.Module, channels: Tensor, is_last: bool, keeps_bias: bool
) -> nn.Module:
    """Return a layer with a part of the hidden channels.

    Args:
        layer: A linear layer or convolution.
        channels: Which hidden channels are taken, bool (hidden channels,).
        is_last: Whether the hidden channels are the inputs of the layer instead of its outputs.
        keeps_bias: Whether the new layer has a bias.
    """
    part = copy.deepcopy(layer)
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    taken = weight[:, channels] if is_last else weight[channels]
    part.weight = nn.Parameter(taken.clone(), requires_grad=False)
    taken_bias = bias.clone() if is_last else bias[channels]
    new_bias = nn.Parameter(taken_bias, requires_grad=False) if keeps_bias else None
    part.register_parameter("bias", new_bias)
    count = int(channels.sum())
    if isinstance(part, nn.Linear):
        part.in_features, part.out_features = part.weight.shape[1], part.weight.shape[0]
    elif isinstance(part, nn.Conv2d):
        is_depthwise = part.groups > 1
        part.out_channels = len(part.weight)
        part.in_channels = count if is_depthwise or is_last else part.in_channels
        part.groups = count if is_depthwise else 1
    return part
