"""The optimizer: AdamW's parameter groups, the learning rate over time, and weight averaging.

The rules are those of microsoft/Cream (TinyViT/optimizer.py, lr_scheduler.py and
models/tiny_vit.py); the implementation is torch's.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tinyvit.distill.training.config import TrainingConfig
from tinyvit.nn.model import TinyViT

REFERENCE_BATCH = 512
"""Images in a step for which learning rates are stated."""


def make_optimizer(model: TinyViT, config: TrainingConfig) -> torch.optim.AdamW:
    """Make AdamW with one group for each learning-rate factor and weight decay.

    Vectors, biases and attention biases have no weight decay.

    Args:
        model: The network to train.
        config: The training settings.

    Returns:
        The optimizer. Each group has the additional entry "scale", the factor of `layer_scale`.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not name.endswith("attention_biases")
            groups[layer_scale(model, name, config.layer_decay), decays].append(parameter)
    parameter_groups: list[dict[str, Any]] = [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if decays else 0.0,
            "scale": scale,
        }
        for (scale, decays), parameters in groups.items()
    ]
    return torch.optim.AdamW(parameter_groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8)


def layer_scale(model: TinyViT, name: str, decay: float) -> float:
    """Return the factor of a parameter's learning rate (layer-wise decay).

    Args:
        model: The network.
        name: Name of the parameter.
        decay: Factor from one block to the one before it, 0 to 1.

    Returns:
        1 in the head and the last block, `decay` in the block before, and so on.
    """
    depths = model.variant.depths
    last_block = sum(depths) - 1
    if name.startswith("patch_embed"):
        return decay**last_block
    if name.startswith("head"):
        return 1.0
    _, stage, part, block_in_stage, *_ = name.split(".")
    blocks_before = sum(depths[: int(stage)])
    # The paper's code counts patch merging as part of the stage that it ends.
    is_merging = part == "downsample"
    block = blocks_before - 1 if is_merging else blocks_before + int(block_in_stage)
    return float(decay ** (last_block - block))


def learning_rate(config: TrainingConfig, step: int, steps_per_epoch: int, batch: int) -> float:
    """Return the learning rate of a step: a linear warm-up, then half a cosine.

    Args:
        config: The training settings; their rates are for `REFERENCE_BATCH` images in a step.
        step: Number of the step, from 0.
        steps_per_epoch: Steps of an epoch.
        batch: Images in a step.
    """
    batch_factor = batch / REFERENCE_BATCH
    warmup_steps = config.warmup_epochs * steps_per_epoch
    total_steps = config.epochs * steps_per_epoch
    if step < warmup_steps:
        increase = (config.lr - config.warmup_lr) * step / warmup_steps
        return batch_factor * (config.warmup_lr + increase)
    fraction = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    cosine = (1 + math.cos(math.pi * fraction)) / 2
    return batch_factor * (config.min_lr + (config.lr - config.min_lr) * cosine)


def make_average(model: TinyViT, decay: float) -> AveragedModel:
    """Make a running average of the weights.

    The average follows faster at first, so that short runs do not average their beginning.

    Args:
        model: The network that trains.
        decay: Weight of the old average in a late update, 0 to 1.
    """

    def update_average(averaged: Any, current: Any, updates: Tensor | int) -> None:
        weight = min(decay, (1 + int(updates)) / (10 + int(updates)))
        torch._foreach_lerp_(list(averaged), list(current), 1 - weight)

    return AveragedModel(model, multi_avg_fn=update_average)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group.

    Args:
        optimizer: What `make_optimizer` returned.
        rate: The rate of the last layers; earlier layers get less by their scale.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
