"""Mixes the images of a training batch by Mixup or CutMix, for training from class labels.

The rules are those of timm's mode "batch", which the paper uses (microsoft/Cream,
TinyViT/data/build.py): the method, its fraction and its box are drawn once for a group of images,
and CutMix's box has whole pixels. With a store, images are mixed by `augmentation.views` instead,
because a teacher must have seen the same views.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tinyvit.distill.augmentation.settings import Augmentation
from tinyvit.distill.training.batches.data_loader import BatchLabels

GROUP_SIZE = 128
"""Number of consecutive images of a batch that share a draw. In the paper, it is the batch of each
of eight processes."""
_SEED_LIMIT = 2**32
"""numpy's RandomState accepts only seeds below this limit."""
_CUTMIX_PROBABILITY = 0.5
"""Probability of CutMix if Mixup and CutMix are both on."""


@dataclass(frozen=True)
class MixingDraw:
    """The random parameters of one group of images.

    Attributes:
        own_fraction: Fraction of a mixed image that comes from the image itself, 0 to 1.
        box: Rows and columns (top, bottom, left, right) that CutMix takes from the partner, the
            second of each pair excluded; None for Mixup.
    """

    own_fraction: float
    box: tuple[int, int, int, int] | None


def draw_mixing(augmentation: Augmentation, seed: Sequence[int], size: int) -> MixingDraw:
    """Draw the parameters of a group.

    Args:
        augmentation: The settings, of which `mixup` or `cutmix` is above 0.
        seed: Whole numbers that identify the group.
        size: Width and height of the images in pixels.
    """
    random = np.random.RandomState([number % _SEED_LIMIT for number in seed])
    uses_cutmix = augmentation.cutmix > 0
    if uses_cutmix and augmentation.mixup > 0:
        uses_cutmix = bool(random.random_sample() < _CUTMIX_PROBABILITY)
    alpha = augmentation.cutmix if uses_cutmix else augmentation.mixup
    own_fraction = float(random.beta(alpha, alpha))
    if not uses_cutmix:
        return MixingDraw(own_fraction, box=None)
    half_side = int(size * math.sqrt(1 - own_fraction)) // 2
    center_y, center_x = (int(center) for center in random.randint(size, size=2))
    top, left = max(center_y - half_side, 0), max(center_x - half_side, 0)
    bottom, right = min(center_y + half_side, size), min(center_x + half_side, size)
    covered_fraction = (bottom - top) * (right - left) / size**2
    return MixingDraw(1 - covered_fraction, (top, bottom, left, right))


def mix_images(
    images: Tensor,
    labels: BatchLabels,
    augmentation: Augmentation,
    step_seed: tuple[int, int],
    start: int,
) -> tuple[Tensor, BatchLabels]:
    """Mix every image with its neighbor in the batch.

    Images 0 and 1 of a batch are partners, then 2 and 3, and so on. The order of a batch is random,
    so this is equivalent to timm's rule, where the first image and the last one are partners; and
    the result is the same if the batch is divided into parts of even sizes. An image whose partner
    is in another part stays as it is.

    Args:
        images: Consecutive normalized images of a batch, float32 (B, 3, S, S).
        labels: Their classes.
        augmentation: The settings, of which `mixup` or `cutmix` is above 0.
        step_seed: Seed of the run and number of the step.
        start: Position of the first image in the batch of all processes.

    Returns:
        (images, labels): the mixed images, and the classes with the partners' classes and the
        fractions.
    """
    count, size = len(images), images.shape[-1]
    own = torch.arange(count)
    partners = ((own + start) ^ 1) - start
    partners = torch.where((partners >= 0) & (partners < count), partners, own)
    mixed, own_fractions = images.clone(), torch.ones(count)
    for group in range(start // GROUP_SIZE, (start + count - 1) // GROUP_SIZE + 1):
        first = max(group * GROUP_SIZE - start, 0)
        rows = slice(first, min((group + 1) * GROUP_SIZE - start, count))
        other_images = images[partners[rows].to(images.device)]
        draw = draw_mixing(augmentation, (*step_seed, group), size)
        if draw.box is None:
            mixed[rows] = images[rows] * draw.own_fraction + other_images * (1 - draw.own_fraction)
        else:
            top, bottom, left, right = draw.box
            mixed[rows, :, top:bottom, left:right] = other_images[:, :, top:bottom, left:right]
        own_fractions[rows] = draw.own_fraction
    classes = labels.classes
    return mixed, BatchLabels(classes, classes[partners.to(classes.device)], own_fractions)
