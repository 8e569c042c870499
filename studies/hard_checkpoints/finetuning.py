"""Fine-tunes a network so that it keeps its answers while its numbers become hard to quantize.

The network learns the logits that it had before (distillation from itself), while a penalty rewards
what long-trained networks have: outlier channels, weights with heavy tails, or massive tokens.
Outlier channels start with a change of the weights that keeps the answers nearly, because a penalty
alone needs thousands of steps to grow them by factors of 30 to 100.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinyvit.nn.layers import MBConv, Mlp
from tinyvit.nn.model import Block, TinyViT
from tinyvit.progress import NullProgress, Progress
from tinyvit.studies.hard_checkpoints.rescaling import OUTLIER_RANGE, draw_outliers

Difficulty: TypeAlias = 'Literal["channels", "weights", "tokens"]'
"""What the penalty rewards: outlier channels, weights with heavy tails, or massive tokens."""

TARGET_CHANNEL_RATIO = 30.0
"""Range of an outlier channel, divided by that of the typical channel, that the penalty rewards."""
TARGET_KURTOSIS = 30.0
"""Kurtosis of the weights of an output channel that the penalty rewards; it is 3 for Gaussians."""
TARGET_TOKEN_RATIO = 30.0
"""Largest absolute value of a massive token, divided by that of the typical token, that the penalty
rewards."""


@dataclass(frozen=True)
class OutlierConfig:
    """How many outlier channels there are, and how large they are.

    Attributes:
        channels_per_outlier: One of this many hidden channels becomes an outlier channel.
        factors: Smallest and largest factor of an outlier channel.
    """

    channels_per_outlier: int = 128
    factors: tuple[float, float] = OUTLIER_RANGE


MODERATE_OUTLIERS = OutlierConfig(channels_per_outlier=16, factors=(8.0, 30.0))
"""Many channels that are moderately large."""


@dataclass(frozen=True)
class FinetuningConfig:
    """Options of a fine-tuning.

    Attributes:
        difficulty: What the penalty rewards.
        steps: Number of optimization steps.
        batch: Images per step.
        learning_rate: Learning rate of Adam, which decreases to 0 along a cosine.
        penalty_weight: Factor of the penalty in the loss.
        seed: Seed of the outlier channels and of the order of the images.
        outliers: The hidden channels that outlier channels start from.
    """

    difficulty: Difficulty
    steps: int = 300
    batch: int = 16
    learning_rate: float = 1e-4
    penalty_weight: float = 0.1
    seed: int = 0
    outliers: OutlierConfig = OutlierConfig()


def finetune(
    network: TinyViT, images: Tensor, config: FinetuningConfig, progress: Progress = NullProgress()
) -> TinyViT:
    """Return a fine-tuned copy of a network.

    Args:
        network: A network that is not folded. It is not changed.
        images: Normalized images, float32 (N, 3, S, S). Their classes are not needed.
        config: The options.
        progress: Receives the number of finished steps.
    """
    generator = torch.Generator().manual_seed(config.seed)
    student = copy.deepcopy(network).eval().requires_grad_()
    if config.difficulty == "channels":
        start_outlier_channels(student, generator, config.outliers)
    penalty = _PENALTIES[config.difficulty]
    optimizer = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, config.steps))
    for step in range(config.steps):
        batch = images[torch.randint(len(images), (config.batch,), generator=generator)]
        with torch.no_grad():
            target = network(batch).log_softmax(1)
        with _record_activations(student) as activations:
            logits = student(batch)
        loss = F.kl_div(logits.log_softmax(1), target, reduction="batchmean", log_target=True)
        loss = loss + config.penalty_weight * penalty(student, activations)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        progress.advance("fine-tuning, steps", step + 1, config.steps)
    return student.eval().requires_grad_(False)


@torch.no_grad()
def start_outlier_channels(
    network: TinyViT, generator: torch.Generator, config: OutlierConfig = OutlierConfig()
) -> None:
    """Multiply a few hidden channels before each GELU, and divide their columns after it.

    GELU(s x) / s is nearly max(x, 0) for a large s, and so differs from GELU(x) by at most 0.17.

    Args:
        network: A network that is not folded. It is changed.
        generator: Draws the channels and the factors.
        config: How many channels there are, and how large they are.
    """
    for module in network.modules():
        if isinstance(module, Mlp):
            factors = _draw_hidden_factors(module.fc1.out_features, generator, config)
            module.fc1.weight.mul_(factors[:, None])
            module.fc1.bias.mul_(factors)
            module.fc2.weight.div_(factors)
        elif isinstance(module, MBConv):
            count = module.conv1.conv.out_channels
            first, second = (_draw_hidden_factors(count, generator, config) for _ in range(2))
            module.conv1.bn.weight.mul_(first)
            module.conv1.bn.bias.mul_(first)
            module.conv2.conv.weight.div_(first[:, None, None, None])
            module.conv2.bn.weight.mul_(second)
            module.conv2.bn.bias.mul_(second)
            module.conv3.conv.weight.div_(second[:, None, None])


def _draw_hidden_factors(count: int, generator: torch.Generator, config: OutlierConfig) -> Tensor:
    """Draw one factor for each hidden channel, float32 (count,): 1 for all but a few."""
    factors = torch.ones(count)
    outlier_count = max(1, count // config.channels_per_outlier)
    outliers = torch.randperm(count, generator=generator)[:outlier_count]
    factors[outliers] = draw_outliers(outlier_count, generator, config.factors).float()
    return factors


@dataclass
class _Activations:
    """Tensors of one run of the network.

    Attributes:
        hidden: Hidden channels of MLPs and MBConvs after GELU, channels last.
        residual: Tokens after each attention block, (tokens, channels).
    """

    hidden: list[Tensor]
    residual: list[Tensor]


@contextmanager
def _record_activations(network: TinyViT) -> Iterator[_Activations]:
    """Record tensors whenever the network runs in this context."""
    activations = _Activations([], [])

    def record_input(_: nn.Module, inputs: Any, __: Tensor) -> None:
        value = inputs[0]
        activations.hidden.append(value if value.ndim == 2 else value.movedim(1, -1).flatten(0, 2))

    def record_output(_: nn.Module, __: Any, output: Tensor) -> None:
        activations.residual.append(output)

    handles = []
    for module in network.modules():
        if isinstance(module, Mlp):
            handles.append(module.fc2.register_forward_hook(record_input))
        elif isinstance(module, MBConv):
            handles.append(module.conv2.register_forward_hook(record_input))
            handles.append(module.conv3.register_forward_hook(record_input))
        elif isinstance(module, Block):
            handles.append(module.register_forward_hook(record_output))
    try:
        yield activations
    finally:
        for handle in handles:
            handle.remove()


def _penalize_even_channels(_: TinyViT, activations: _Activations) -> Tensor:
    """Return how far the largest channels are from `TARGET_CHANNEL_RATIO` times the typical one."""
    penalties = []
    for tensor in (*activations.hidden, *activations.residual):
        ranges = tensor.abs().amax(0)
        ratio = ranges.amax() / ranges.detach().median()
        penalties.append(_shortfall(ratio, TARGET_CHANNEL_RATIO))
    return torch.stack(penalties).mean()


def _penalize_light_tails(network: TinyViT, _: _Activations) -> Tensor:
    """Return how far the kurtosis of the weights is from `TARGET_KURTOSIS`."""
    penalties = []
    for module in network.modules():
        if isinstance(module, nn.Linear):
            deviations = module.weight - module.weight.mean(1, keepdim=True)
            variance = deviations.square().mean(1)
            kurtosis = deviations.pow(4).mean(1) / variance.square()
            penalties.append(_shortfall(kurtosis, TARGET_KURTOSIS).mean())
    return torch.stack(penalties).mean()


def _penalize_even_tokens(_: TinyViT, activations: _Activations) -> Tensor:
    """Return how far the largest token is from `TARGET_TOKEN_RATIO` times the typical one."""
    penalties = []
    for tensor in activations.residual:
        ranges = tensor.abs().amax(1)
        penalties.append(_shortfall(ranges.amax() / ranges.detach().median(), TARGET_TOKEN_RATIO))
    return torch.stack(penalties).mean()


def _shortfall(ratio: Tensor, target: float) -> Tensor:
    """Return the logarithm of target / ratio, or 0 where the ratio is above the target."""
    return torch.relu(torch.log(torch.tensor(target)) - torch.log(ratio.clamp_min(1e-6)))


_PENALTIES: dict[Difficulty, Callable[[TinyViT, _Activations], Tensor]] = {
    "channels": _penalize_even_channels,
    "weights": _penalize_light_tails,
    "tokens": _penalize_even_tokens,
}
