"""The optimizer: parameter groups of AdamW, the learning-rate schedule, and weight averaging.

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
"""Images per step that the learning rates of `TrainingConfig` refer to."""


def make_optimizer(model: TinyViT, config: TrainingConfig) -> torch.optim.AdamW:
    """Make AdamW with one parameter group for each learning-rate factor and weight decay.

    Biases, other one-dimensional parameters and attention biases have no weight decay.

    Args:
        model: The network to train.
        config: The training settings.

    Returns:
        The optimizer. Each group has the additional entry "factor", its learning-rate factor from
        `compute_learning_rate_factor`.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not name.endswith("attention_biases")
            groups[compute_learning_rate_factor(model, name, config.layer_decay), decays].append(
                parameter
            )
    parameter_groups: list[dict[str, Any]] = [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if decays else 0.0,
            "factor": factor,
        }
        for (factor, decays), parameters in groups.items()
    ]
    return torch.optim.AdamW(parameter_groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8)


def compute_learning_rate_factor(model: TinyViT, name: str, decay: float) -> float:
    """Return the learning-rate factor of a parameter (layer-wise decay).

    Args:
        model: The network.
        name: Name of the parameter.
        decay: Factor from one block to the block before it, 0 to 1.

    Returns:
        1 for the head and the last block, `decay` for the block before it, `decay` squared for
        the one before that, and so on.
    """
    depths = model.variant.depths
    last_block = sum(depths) - 1
    if name.startswith("patch_embed"):
        return decay**last_block
    if name.startswith("head"):
        return 1.0
    _, stage, part, block_in_stage, *_ = name.split(".")
    blocks_before = sum(depths[: int(stage)])
    # The paper's code counts patch merging as part of the last block of a stage. In the parameter
    # names of timm, it belongs to the next stage.
    is_merging = part == "downsample"
    block = blocks_before - 1 if is_merging else blocks_before + int(block_in_stage)
    return float(decay ** (last_block - block))


def compute_learning_rate(
    config: TrainingConfig, step: int, steps_per_epoch: int, batch: int
) -> float:
    """Return the learning rate of a step: a linear warm-up, followed by a cosine decay.

    Args:
        config: The training settings; their rates are for `REFERENCE_BATCH` images per step.
        step: Number of the step, from 0.
        steps_per_epoch: Steps per epoch.
        batch: Images per step.
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


def make_weight_average(model: TinyViT, decay: float) -> AveragedModel:
    """Make an exponential moving average (EMA) of the weights.

    The decay is smaller in the first updates, so that the average soon forgets the initial weights.

    Args:
        model: The network that trains.
        decay: Decay after the first updates, 0 to 1: the weight of the previous average.
    """

    def update_average(averaged: Any, current: Any, updates: Tensor | int) -> None:
        weight = min(decay, (1 + int(updates)) / (10 + int(updates)))
        torch._foreach_lerp_(list(averaged), list(current), 1 - weight)

    return AveragedModel(model, multi_avg_fn=update_average)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group.

    Args:
        optimizer: The optimizer, from `make_optimizer`.
        rate: The learning rate. Each group gets `rate` times its entry "factor".
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
