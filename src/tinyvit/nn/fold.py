"""Folding moves operations that are constant at inference into the weights; unfolding undoes this.

The network for training has BatchNorm layers, LayerNorms with scale and shift, and one linear layer
for queries, keys and values. The folded network computes the same logits with fewer operations.
This is the network that is exported.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tinyvit.nn.attention import Attention, FusedProjection, SplitProjection
from tinyvit.nn.layers import ConvNorm, Mlp
from tinyvit.nn.model import TinyViT
from tinyvit.variants import HEAD_DIM


@torch.no_grad()
def fold_model(model: TinyViT) -> TinyViT:
    """Fold a network for export.

    - BatchNorm moves into the convolution before it.
    - In attention and MLPs, the scale and shift of the LayerNorm move into the linear layer after
      it. The LayerNorm before the classifier is not changed.
    - Queries, keys and values get a linear layer each. The factor 1 / sqrt(HEAD_DIM) of the
      attention scores moves into the layer of the queries, which is the only one of the three with
      a bias (see `_split_projection`).

    New weights are computed in float64 and rounded to float32 once.

    Args:
        model: A network that is not folded. It is not changed.

    Returns:
        A copy in eval mode. Its logits are those of `model` in eval mode, apart from rounding.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(folded.modules()):
        for name, child in module.named_children():
            if isinstance(child, ConvNorm):
                setattr(module, name, _fold_batch_norm(child))
        if isinstance(module, Attention) and isinstance(module.qkv, FusedProjection):
            module.norm = _move_scale_and_shift(module.norm, module.qkv)
            _split_projection(module, module.qkv)
        if isinstance(module, Mlp):
            module.norm = _move_scale_and_shift(module.norm, module.fc1)
    return folded


@torch.no_grad()
def unfold_model(folded: TinyViT) -> TinyViT:
    """Convert a folded network back into one with the parameter names of a checkpoint.

    BatchNorm and the folded LayerNorms get a scale of 1, and keys and values get a bias of 0.
    Folding the result gives the same folded network, apart from rounding.

    Args:
        folded: A network that `fold_model` returned. It is not changed.

    Returns:
        A network in eval mode.
    """
    model = TinyViT(folded.variant, folded.num_classes, folded.img_size, folded.window_sizes).eval()
    for name, module in model.named_modules():
        if isinstance(module, ConvNorm):
            _unfold_batch_norm(module, folded.get_submodule(name))
        if isinstance(module, Attention):
            _join_projections(module, folded.get_submodule(name))
        if isinstance(module, Mlp):
            module.fc1.load_state_dict(folded.get_submodule(f"{name}.fc1").state_dict())
            module.fc2.load_state_dict(folded.get_submodule(f"{name}.fc2").state_dict())
    model.head.load_state_dict(folded.head.state_dict())
    return model


def _fold_batch_norm(conv_norm: ConvNorm) -> nn.Conv2d:
    """Return one convolution with bias that replaces a convolution and the BatchNorm after it."""
    conv, bn = copy.deepcopy(conv_norm.conv), copy.deepcopy(conv_norm.bn).double()
    assert bn.running_mean is not None
    assert bn.running_var is not None
    weight, bias = fuse_conv_bn_weights(
        conv_w=conv.weight.double(),
        conv_b=None,
        bn_rm=bn.running_mean,
        bn_rv=bn.running_var,
        bn_eps=bn.eps,
        bn_w=bn.weight,
        bn_b=bn.bias,
    )
    conv.weight, conv.bias = _freeze(weight), _freeze(bias)
    return conv


def _unfold_batch_norm(conv_norm: ConvNorm, conv: nn.Module) -> None:
    """Copy a folded convolution into a `ConvNorm`, whose BatchNorm then only adds the bias."""
    conv_norm.conv.weight.copy_(conv.get_parameter("weight"))
    assert conv_norm.bn.running_var is not None
    # BatchNorm divides by sqrt(running_var + eps), which becomes 1.
    conv_norm.bn.running_var.fill_(1 - conv_norm.bn.eps)
    conv_norm.bn.bias.copy_(conv.get_parameter("bias"))


def _move_scale_and_shift(norm: nn.LayerNorm, linear: nn.Linear) -> nn.LayerNorm:
    """Move the scale and shift of a LayerNorm into the linear layer after it.

    Args:
        norm: The LayerNorm. No layer other than `linear` uses its output.
        linear: The linear layer, which is changed.

    Returns:
        A LayerNorm without scale and shift, which replaces `norm`.
    """
    weight, bias = linear.weight.double(), linear.bias.double()
    linear.weight = _freeze(weight * norm.weight.double())
    linear.bias = _freeze(bias + weight @ norm.bias.double())
    return nn.LayerNorm(norm.normalized_shape, norm.eps, elementwise_affine=False)


def _split_projection(attention: Attention, qkv: FusedProjection) -> None:
    """Replace the layer for queries, keys and values by three linear layers.

    The bias of the keys is dropped: it adds the same number to all scores of a query, which does
    not change their softmax. The bias of the values moves into the bias of the output projection:
    the attention weights of a query add up to 1, so the weighted sum of the values contains this
    bias exactly once.
    """
    weight = qkv.weight.double().reshape(-1, 3, HEAD_DIM, qkv.in_features)
    bias = qkv.bias.double().reshape(-1, 3, HEAD_DIM)
    q_weight, k_weight, v_weight = (weight[:, i].reshape(-1, qkv.in_features) for i in range(3))
    q_bias, _, v_bias = (bias[:, i].reshape(-1) for i in range(3))
    scale = HEAD_DIM**-0.5
    out_weight, out_bias = attention.proj.weight.double(), attention.proj.bias.double()
    attention.qkv = SplitProjection(
        _make_linear(q_weight * scale, q_bias * scale),
        _make_linear(k_weight),
        _make_linear(v_weight),
    )
    attention.proj = _make_linear(out_weight, out_bias + out_weight @ v_bias)


def _join_projections(attention: Attention, folded: nn.Module) -> None:
    """Copy the weights of a folded attention module into one that has a `FusedProjection`."""
    qkv = folded.get_submodule("qkv")
    # Folding multiplied the queries by 1 / sqrt(HEAD_DIM).
    q_weight = qkv.get_parameter("q.weight").double() * HEAD_DIM**0.5
    q_bias = qkv.get_parameter("q.bias").double() * HEAD_DIM**0.5
    k_weight = qkv.get_parameter("k.weight").double()
    v_weight = qkv.get_parameter("v.weight").double()
    dim = q_weight.shape[1]
    by_head = [weight.reshape(-1, HEAD_DIM, dim) for weight in (q_weight, k_weight, v_weight)]
    biases = torch.zeros(dim // HEAD_DIM, 3, HEAD_DIM, dtype=torch.float64)
    biases[:, 0] = q_bias.reshape(-1, HEAD_DIM)
    fused = attention.qkv
    assert isinstance(fused, FusedProjection)
    fused.weight.copy_(torch.stack(by_head, 1).reshape(-1, dim))
    fused.bias.copy_(biases.reshape(-1))
    attention.proj.load_state_dict(folded.get_submodule("proj").state_dict())
    attention.attention_biases.copy_(folded.get_parameter("attention_biases"))


def _make_linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """Return a frozen linear layer with a weight (out, in) and a bias (out,), if any."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight = _freeze(weight)
    if bias is not None:
        linear.bias = _freeze(bias)
    return linear


def _freeze(value: Tensor) -> nn.Parameter:
    """Return a float32 parameter that is not trained."""
    return nn.Parameter(value.float().contiguous(), requires_grad=False)
