"""Selects which parts of a network a training run changes.

With a frozen backbone, only the classifier is trained, which is called a linear probe. The
classifier is the last linear layer, and the backbone is everything before it.
"""

from __future__ import annotations

from torch import nn

from tinyvit.distill.training.config import TrainingConfig
from tinyvit.nn.model import TinyViT


def freeze_weights(model: TinyViT, config: TrainingConfig) -> None:
    """Exclude the weights that the settings freeze from training.

    No gradients are computed for them, so a step with a frozen backbone takes little more time and
    memory than a forward pass.

    Args:
        model: The network, which is changed in place.
        config: The training settings.
    """
    if config.freeze == "backbone":
        model.requires_grad_(False)
        model.head.fc.requires_grad_(True)


def set_training_mode(model: TinyViT, config: TrainingConfig) -> None:
    """Set a network to training mode, except for what the settings freeze.

    In a frozen backbone, BatchNorm layers use and keep their running statistics, and stochastic
    depth skips nothing.

    Args:
        model: The network, which is changed in place.
        config: The training settings.
    """
    model.train(config.freeze == "none")
    if config.frozen_batchnorm:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
