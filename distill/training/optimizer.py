"""Makes the optimizer AdamW, and computes learning rates and the moving average of the weights.

The rules for parameter groups and learning rates are those of microsoft/Cream (optimizer.py,
lr_scheduler.py and models/tiny_vit.py in the folder TinyViT).
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
    """Make AdamW with a parameter group for each pair of learning-rate factor and weight decay.

    Attention biases and one-dimensional parameters, such as other biases, have no weight decay.

    Args:
        model: The network to train.
        config: The training settings.

    Returns:
        The optimizer, whose learning rates are 0 until `set_learning_rate` is called. Each group
        has an additional entry "factor": the learning-rate factor of the group's parameters, from
        `compute_learning_rate_factor`.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            has_decay = parameter.ndim > 1 and not name.endswith("attention_biases")
            factor = compute_learning_rate_factor(model, name, config.layer_decay)
            groups[factor, has_decay].append(parameter)
    parameter_groups: list[dict[str, Any]] = [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if has_decay else 0.0,
            "factor": factor,
        }
        for (factor, has_decay), parameters in groups.items()
    ]
    return torch.optim.AdamW(parameter_groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8)


def compute_learning_rate_factor(model: TinyViT, name: str, decay: float) -> float:
    """Return the learning-rate factor of a parameter, which is smaller in earlier blocks.

    Args:
        model: The network.
        name: Name of the parameter, such as "stages.2.blocks.5.attn.qkv.weight".
        decay: Learning rate of a block divided by that of the next block, 0 to 1.

    Returns:
        1 for the head and the last block, `decay` for the block before it, `decay` squared for
        the one before that, and so on.
    """
    depths = model.variant.depths
    last_block = sum(depths) - 1
    if name.startswith("patch_embed"):  # it has the factor of the first block
        return decay**last_block
    if name.startswith("head"):
        return 1.0
    # The name is "stages.STAGE.blocks.BLOCK..." or, in patch merging, "stages.STAGE.downsample...".
    _, stage, part, block_in_stage, *_ = name.split(".")
    blocks_before_stage = sum(depths[: int(stage)])
    if part == "downsample":
        # The paper's code counts patch merging as part of the last block of the stage before it.
        block = blocks_before_stage - 1
    else:
        block = blocks_before_stage + int(block_in_stage)
    return float(decay ** (last_block - block))


def compute_learning_rate(
    config: TrainingConfig, step: int, steps_per_epoch: int, batch: int
) -> float:
    """Return the learning rate of a step: a linear warm-up, followed by a cosine decay.

    The schedule is the paper's (lr_scheduler.py and main.py, with CosineLRScheduler of timm
    0.4.12). The cosine runs over all steps from step 0, so it has already fallen a little when the
    warm-up ends. The rate is updated after a step, with the number of that step. Therefore steps 0
    and 1 have the first rate of the warm-up, and every later step has the rate that the schedule
    gives for the step before it.

    Args:
        config: The training settings; their rates are for `REFERENCE_BATCH` images per step.
        step: Number of the step, counted from 0 through all epochs.
        steps_per_epoch: Number of steps per epoch.
        batch: Images per step, in all processes and parts of the batch together.
    """
    batch_factor = batch / REFERENCE_BATCH
    warmup_steps = int(config.warmup_epochs * steps_per_epoch)
    total_steps = config.epochs * steps_per_epoch
    position = max(step - 1, 0)
    if position < warmup_steps:
        increase = (config.lr - config.warmup_lr) * position / warmup_steps
        return batch_factor * (config.warmup_lr + increase)
    remaining_share = (1 + math.cos(math.pi * position / total_steps)) / 2
    return batch_factor * (config.min_lr + (config.lr - config.min_lr) * remaining_share)


def make_weight_average(model: TinyViT, decay: float) -> AveragedModel:
    """Make an exponential moving average (EMA) of the weights.

    An update replaces the average by decay * average + (1 - decay) * weights. The decay is smaller
    in the first updates, so that the average soon forgets the initial weights.

    Args:
        model: The network that is trained.
        decay: Decay after the first updates, 0 to 1.
    """

    def update_average(average: Any, weights: Any, num_averaged: Tensor | int) -> None:
        update_count = int(num_averaged)
        current_decay = min(decay, (1 + update_count) / (10 + update_count))
        torch._foreach_lerp_(list(average), list(weights), 1 - current_decay)

    return AveragedModel(model, multi_avg_fn=update_average)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group.

    Args:
        optimizer: The optimizer, from `make_optimizer`.
        rate: The learning rate. Each group gets `rate` times its entry "factor".
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
