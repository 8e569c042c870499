"""How weights change: AdamW's groups, the learning rate over time, the running average. Rules: microsoft/Cream, TinyViT/optimizer.py,
lr_scheduler.py and models/tiny_vit.py; the doing is torch's."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tinyvit.distill.training.config import TrainingConfig
from tinyvit.nn.model import TinyViT

SCALED_BY = 512
"""Pictures a step for which a learning rate is stated."""


def make_optimizer(model: TinyViT, settings: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over groups by layer-wise rate ("scale") and decay; vectors, biases and attention biases do not decay."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not name.endswith("attention_biases")
            groups[layer_scale(model, name, settings.layer_decay), decays].append(parameter)
    made: list[dict[str, Any]] = [
        {
            "params": parameters,
            "weight_decay": settings.weight_decay if decays else 0.0,
            "scale": scale,
        }
        for (scale, decays), parameters in groups.items()
    ]
    return torch.optim.AdamW(made, lr=0.0, betas=(0.9, 0.999), eps=1e-8)


def layer_scale(model: TinyViT, name: str, decay: float) -> float:
    """What the learning rate of a parameter is multiplied by: 1 in the last block and the head, `decay` times less a block before."""
    depths = model.variant.depths
    last = sum(depths) - 1
    if name.startswith("patch_embed"):
        return decay**last
    if name.startswith("head"):
        return 1.0
    _, stage, part, block, *_ = name.split(".")
    before = sum(depths[: int(stage)])
    depth = (
        before - 1 if part == "downsample" else before + int(block)
    )  # merging belongs to the stage it ends
    return float(decay ** (last - depth))


def learning_rate(settings: TrainingConfig, step: int, steps_per_epoch: int, batch: int) -> float:
    """At a step counted from 0: a line up from warmup_lr, then half a cosine down to min_lr; all scaled by the pictures a step."""
    scale = batch / SCALED_BY
    warmup, total = settings.warmup_epochs * steps_per_epoch, settings.epochs * steps_per_epoch
    if step < warmup:
        return scale * (settings.warmup_lr + (settings.lr - settings.warmup_lr) * step / warmup)
    done = (step - warmup) / max(total - warmup, 1)
    return scale * (
        settings.min_lr + (settings.lr - settings.min_lr) * (1 + math.cos(math.pi * done)) / 2
    )


def make_average(model: TinyViT, decay: float) -> AveragedModel:
    """A running average of the weights, torch's; quicker while it is young, so that short runs do not average their beginning."""

    def average(averaged: Any, current: Any, count: Tensor | int) -> None:
        weight = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(list(averaged), list(current), 1 - weight)

    return AveragedModel(model, multi_avg_fn=average)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """`rate` for the last layers, less for those before."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
