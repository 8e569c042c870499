"""Rewrites a network so that it computes the same logits with numbers that are hard to quantize.

Each function changes weights in place and keeps the function that the network computes, apart from
rounding. Long-trained networks have such numbers too: a few channels whose activations are 30 to
100 times as large as those of a typical channel, large constant offsets, and weights with heavy
tails. Layers around a GELU cannot be rescaled in this way, because GELU(s x) is not s GELU(x).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tinyvit.nn.attention import Attention
from tinyvit.nn.layers import Mlp
from tinyvit.nn.model import AttentionStage, Block, TinyViT
from tinyvit.variants import HEAD_DIM

OUTLIER_RANGE = (30.0, 100.0)
"""Smallest and largest factor of an outlier channel."""
CHANNELS_PER_OUTLIER = 32
"""One of this many channels becomes an outlier channel: one in each attention head."""
TAIL_DEVIATION = 0.7
"""Standard deviation of the natural logarithm of the factors of all other channels."""


@torch.no_grad()
def rescale_values(network: TinyViT, generator: torch.Generator) -> None:
    """Multiply the value channels of all attention modules, and divide the columns of "proj".

    Args:
        network: A network that is not folded. It is changed.
        generator: Draws the factors.
    """
    for attention in _attention_modules(network):
        factors = _draw_factors(attention.proj.in_features, generator)
        _, _, values = _projection_rows(attention)
        _scale_rows(attention.qkv, values, factors)
        _divide_columns(attention.proj, factors)


@torch.no_grad()
def rescale_keys(network: TinyViT, generator: torch.Generator) -> None:
    """Multiply the key channels of all attention modules, and divide the query channels.

    Args:
        network: A network that is not folded. It is changed.
        generator: Draws the factors.
    """
    for attention in _attention_modules(network):
        factors = _draw_factors(attention.proj.in_features, generator)
        queries, keys, _ = _projection_rows(attention)
        _scale_rows(attention.qkv, keys, factors)
        _scale_rows(attention.qkv, queries, 1 / factors)


@torch.no_grad()
def rescale_norms(network: TinyViT, generator: torch.Generator) -> None:
    """Multiply the scales and shifts of LayerNorms, and divide the columns of the layers after.

    The LayerNorm before the classifier is changed in the same way.

    Args:
        network: A network that is not folded. It is changed.
        generator: Draws the factors.
    """
    for norm, linear in _norms_with_linear_layers(network):
        factors = _draw_factors(linear.in_features, generator)
        norm.weight.copy_(norm.weight.double() * factors)
        norm.bias.copy_(norm.bias.double() * factors)
        _divide_columns(linear, factors)


@torch.no_grad()
def add_offsets(network: TinyViT, generator: torch.Generator) -> None:
    """Add large constants to a few channels, and subtract their effect in the next layer.

    The channels are those of keys (softmax ignores a constant that is added to all scores of a
    query), of values (the attention weights of a query add up to 1), of the shifts of LayerNorms,
    and of the outputs of the second and the third stage.

    Args:
        network: A network that is not folded. It is changed.
        generator: Draws the channels and the constants.
    """
    for attention in _attention_modules(network):
        _, keys, values = _projection_rows(attention)
        bias = attention.qkv.get_parameter("bias")
        bias[keys] += _draw_offsets(len(keys), generator).float()
        offsets = _draw_offsets(len(values), generator)
        bias[values] += offsets.float()
        _subtract_offsets(attention.proj, offsets)
    for norm, linear in _norms_with_linear_layers(network):
        offsets = _draw_offsets(linear.in_features, generator)
        norm.bias.add_(offsets.float())
        _subtract_offsets(linear, offsets)
    for index in (1, 2):
        stage, next_stage = network.stages[index], network.stages[index + 1]
        assert isinstance(stage, AttentionStage)
        assert isinstance(next_stage, AttentionStage)
        block, downsample = stage.blocks[-1], next_stage.downsample.conv1
        assert isinstance(block, Block)
        offsets = _draw_offsets(block.mlp.fc2.out_features, generator)
        block.mlp.fc2.bias.add_(offsets.float())
        # BatchNorm subtracts the running mean, so this removes what the convolution makes of them.
        weight = downsample.conv.weight.double().flatten(1)
        assert downsample.bn.running_mean is not None
        downsample.bn.running_mean.add_((weight @ offsets).float())


def _attention_modules(network: TinyViT) -> Iterator[Attention]:
    """Yield the attention modules of a network."""
    for module in network.modules():
        if isinstance(module, Attention):
            yield module


def _norms_with_linear_layers(network: TinyViT) -> Iterator[tuple[nn.LayerNorm, nn.Linear]]:
    """Yield every LayerNorm, and the only layer that uses its output."""
    for module in network.modules():
        if isinstance(module, Attention):
            assert isinstance(module.qkv, nn.Linear)
            yield module.norm, module.qkv
        elif isinstance(module, Mlp):
            yield module.norm, module.fc1
    # A network that returns feature maps has no head.
    if not network.feature_stages:
        yield network.head.norm, network.head.fc


def _projection_rows(attention: Attention) -> tuple[Tensor, Tensor, Tensor]:
    """Return the row numbers of queries, keys and values in the projection, (dim,) each."""
    dim = attention.proj.in_features
    rows = torch.arange(3 * dim).reshape(-1, 3, HEAD_DIM)
    return rows[:, 0].flatten(), rows[:, 1].flatten(), rows[:, 2].flatten()


def _draw_factors(count: int, generator: torch.Generator) -> Tensor:
    """Draw one factor for each channel, float64 (count,): a few outliers, and a heavy tail."""
    logarithms = TAIL_DEVIATION * torch.randn(count, generator=generator, dtype=torch.float64)
    factors = logarithms.exp()
    outliers = torch.randperm(count, generator=generator)[: max(1, count // CHANNELS_PER_OUTLIER)]
    factors[outliers] = draw_outliers(len(outliers), generator)
    return factors


def _draw_offsets(count: int, generator: torch.Generator) -> Tensor:
    """Draw one constant for each channel, float64 (count,): 0 for all but a few channels."""
    offsets = torch.zeros(count, dtype=torch.float64)
    outliers = torch.randperm(count, generator=generator)[: max(1, count // CHANNELS_PER_OUTLIER)]
    signs = 2 * torch.randint(2, (len(outliers),), generator=generator) - 1
    offsets[outliers] = signs * draw_outliers(len(outliers), generator)
    return offsets


def draw_outliers(
    count: int, generator: torch.Generator, limits: tuple[float, float] = OUTLIER_RANGE
) -> Tensor:
    """Draw numbers whose logarithm is uniform.

    Args:
        count: How many numbers are drawn.
        generator: Draws the numbers.
        limits: The smallest and the largest number.

    Returns:
        The numbers, float64 (count,).
    """
    smallest, largest = (torch.tensor(value).double() for value in limits)
    uniform = torch.rand(count, generator=generator, dtype=torch.float64)
    return smallest * (largest / smallest) ** uniform


def _scale_rows(layer: nn.Module, rows: Tensor, factors: Tensor) -> None:
    """Multiply rows of the weight, and the same elements of the bias, of a linear layer."""
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    weight[rows] = (weight[rows].double() * factors[:, None]).float()
    bias[rows] = (bias[rows].double() * factors).float()


def _divide_columns(layer: nn.Linear, factors: Tensor) -> None:
    """Divide the columns of the weight of a linear layer."""
    layer.weight.copy_(layer.weight.double() / factors)


def _subtract_offsets(layer: nn.Linear, offsets: Tensor) -> None:
    """Change the bias of a linear layer as if constants were subtracted from its input."""
    layer.bias.copy_(layer.bias.double() - layer.weight.double() @ offsets)
