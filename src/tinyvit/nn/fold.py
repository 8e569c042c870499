"""From the module that trains to the one that is exported, and back: what is constant at inference moves into the weights."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tinyvit.nn.model import Attention, ConvNorm, FusedProjection, Mlp, SplitProjection, TinyViT
from tinyvit.variants import HEAD_DIM


@torch.no_grad()
def fold_model(model: TinyViT) -> TinyViT:
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
    weight, bias = fuse_conv_bn_weights(
        conv.weight.double(), None, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    conv.weight, conv.bias = _constant(weight), _constant(bias)
    return conv


def _unscaled(norm: nn.LayerNorm, after: nn.Linear) -> nn.LayerNorm:
    """The norm without its scale and shift, which go into the only layer that reads it."""
    weight, bias = after.weight.double(), after.bias.double()
    after.weight, after.bias = (
        _constant(weight * norm.weight.double()),
        _constant(bias + weight @ norm.bias.double()),
    )
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
    attention.qkv = SplitProjection(
        _linear(matrices[0] * scale, q * scale), _linear(matrices[1]), _linear(matrices[2])
    )
    attention.proj = _linear(proj[0], proj[1] + proj[0] @ v)


def _linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight = _constant(weight)
    if bias is not None:
        made.bias = _constant(bias)
    return made


def _constant(value: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(value.float().contiguous(), requires_grad=False)


@torch.no_grad()
def unfold_model(folded: TinyViT) -> TinyViT:
    """The inverse of `fold_model` as far as there is one: a network in eval mode with the parameters of a checkpoint, whose folding is `folded`
    again but for rounding. Its norms scale by 1, its keys and values have no bias."""
    made = TinyViT(folded.variant, folded.num_classes, folded.img_size).eval()
    for name, module in made.named_modules():
        if isinstance(module, ConvNorm):
            conv = folded.get_submodule(name)
            module.conv.weight.copy_(conv.get_parameter("weight"))
            bn = module.bn
            assert bn.running_var is not None
            bn.running_var.fill_(1 - bn.eps)
            bn.bias.copy_(conv.get_parameter("bias"))
        if isinstance(module, Attention):
            _join(module, folded.get_submodule(name))
        if isinstance(module, Mlp):
            module.fc1.load_state_dict(folded.get_submodule(f"{name}.fc1").state_dict())
            module.fc2.load_state_dict(folded.get_submodule(f"{name}.fc2").state_dict())
    made.head.load_state_dict(folded.head.state_dict())
    return made


def _join(attention: Attention, folded: nn.Module) -> None:
    """One matrix of three, interleaved by head, the scale of the queries taken out."""
    qkv = folded.get_submodule("qkv")
    matrices = [qkv.get_parameter(f"{part}.weight").double() for part in "qkv"]
    matrices[0] = matrices[0] * HEAD_DIM**0.5
    dim = matrices[0].shape[1]
    biases = torch.zeros(dim // HEAD_DIM, 3, HEAD_DIM, dtype=torch.float64)
    biases[:, 0] = (qkv.get_parameter("q.bias").double() * HEAD_DIM**0.5).reshape(-1, HEAD_DIM)
    fused = attention.qkv
    assert isinstance(fused, FusedProjection)
    fused.weight.copy_(
        torch.stack([m.reshape(-1, HEAD_DIM, dim) for m in matrices], 1).reshape(-1, dim)
    )
    fused.bias.copy_(biases.reshape(-1))
    attention.proj.load_state_dict(folded.get_submodule("proj").state_dict())
    attention.attention_biases.copy_(folded.get_parameter("attention_biases"))
