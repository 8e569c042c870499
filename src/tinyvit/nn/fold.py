"""From the module that trains to the one that is exported: what is constant at inference moves into the weights."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tinyvit.nn.model import Attention, ConvNorm, FusedProjection, SplitProjection, TinyViT
from tinyvit.variants import HEAD_DIM


@torch.no_grad()
def fold(model: TinyViT) -> TinyViT:
    """A copy in eval mode with BatchNorm in its convolution, and queries, keys and values apart, the attention scale in the queries.

    Computed in float64 and rounded once. The logits are the original's but for rounding.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(folded.modules()):
        for name, child in module.named_children():
            if isinstance(child, ConvNorm):
                setattr(module, name, _fold_norm(child))
        if isinstance(module, Attention) and isinstance(module.qkv, FusedProjection):
            module.qkv = _split(module.qkv)
    return folded


def _fold_norm(pair: ConvNorm) -> nn.Conv2d:
    conv, bn = copy.deepcopy(pair.conv), copy.deepcopy(pair.bn).double()
    assert bn.running_mean is not None
    assert bn.running_var is not None
    weight, bias = fuse_conv_bn_weights(conv.weight.double(), None, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
    conv.weight, conv.bias = _constant(weight), _constant(bias)
    return conv


def _split(qkv: FusedProjection) -> SplitProjection:
    weight = qkv.weight.double().reshape(-1, 3, HEAD_DIM, qkv.in_features)
    bias = qkv.bias.double().reshape(-1, 3, HEAD_DIM)
    parts = []
    for i, scale in enumerate((HEAD_DIM**-0.5, 1, 1)):
        part = nn.Linear(qkv.in_features, qkv.in_features)
        part.weight = _constant(weight[:, i].reshape(-1, qkv.in_features) * scale)
        part.bias = _constant(bias[:, i].reshape(-1) * scale)
        parts.append(part)
    return SplitProjection(*parts)


def _constant(value: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(value.float().contiguous(), requires_grad=False)
