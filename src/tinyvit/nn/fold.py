"""From the module that trains to the one that is exported: what is constant at inference moves into the weights."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tinyvit.nn.model import Attention, ConvNorm, FusedProjection, Mlp, SplitProjection, TinyViT
from tinyvit.variants import HEAD_DIM


@torch.no_grad()
def fold(model: TinyViT) -> TinyViT:
    """A copy in eval mode with BatchNorm in its convolution, and queries, keys and values apart: the attention scale
    is in the queries, the biases of keys and values are gone.

    Computed in float64 and rounded once. The logits are the original's but for rounding.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(folded.modules()):
        for name, child in module.named_children():
            if isinstance(child, ConvNorm):
                setattr(module, name, _fold_norm(child))
        if isinstance(module, Attention) and isinstance(module.qkv, FusedProjection):
            module.norm = _unscaled(module.norm, module.qkv)
            _split(module, module.qkv)
        if isinstance(module, Mlp):
            module.norm = _unscaled(module.norm, module.fc1)
    return folded


def _fold_norm(pair: ConvNorm) -> nn.Conv2d:
    conv, bn = copy.deepcopy(pair.conv), copy.deepcopy(pair.bn).double()
    assert bn.running_mean is not None
    assert bn.running_var is not None
    weight, bias = fuse_conv_bn_weights(conv.weight.double(), None, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
    conv.weight, conv.bias = _constant(weight), _constant(bias)
    return conv


def _unscaled(norm: nn.LayerNorm, after: nn.Linear) -> nn.LayerNorm:
    """The norm without its scale and shift, which go into the only layer that reads it."""
    weight, bias = after.weight.double(), after.bias.double()
    after.weight, after.bias = _constant(weight * norm.weight.double()), _constant(bias + weight @ norm.bias.double())
    return nn.LayerNorm(norm.normalized_shape, norm.eps, elementwise_affine=False)


def _split(attention: Attention, qkv: FusedProjection) -> None:
    """Three products, two of them without a bias: softmax cannot see what the keys' adds to a whole row of scores, and the
    values' comes through the weights, which add up to 1, unchanged, so that it can be added after the projection.
    """
    weight = qkv.weight.double().reshape(-1, 3, HEAD_DIM, qkv.in_features)
    bias = qkv.bias.double().reshape(-1, 3, HEAD_DIM)
    matrices = [weight[:, i].reshape(-1, qkv.in_features) for i in range(3)]
    q, _, v = (bias[:, i].reshape(-1) for i in range(3))
    scale = HEAD_DIM**-0.5
    proj = attention.proj.weight.double(), attention.proj.bias.double()
    attention.qkv = SplitProjection(_linear(matrices[0] * scale, q * scale), _linear(matrices[1]), _linear(matrices[2]))
    attention.proj = _linear(proj[0], proj[1] + proj[0] @ v)


def _linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight = _constant(weight)
    if bias is not None:
        made.bias = _constant(bias)
    return made


def _constant(value: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(value.float().contiguous(), requires_grad=False)
