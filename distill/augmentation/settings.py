"""Defines the settings of the augmentation, and the version of the code that applies them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from tinyvit.distill.augmentation.randaugment import MAX_MAGNITUDE
from tinyvit.errors import RequestError

VERSION = 3
"""Version of the augmentation code. It changes when the same seed gives another view, for example
because random numbers are drawn in another order. Stores of another version are refused."""
_MAX_OPERATIONS = 10
"""Largest number of RandAugment operations."""


@dataclass(frozen=True)
class Augmentation:
    """Settings of the augmentation.

    The defaults are the paper's for training with saved logits and for fine-tuning (microsoft/
    Cream, TinyViT/config.py and TinyViT/configs). In the paper, only training from scratch uses
    Mixup and CutMix.

    Attributes:
        scale: Smallest and largest area of the random crop, as a fraction of the image.
        ratio: Smallest and largest aspect ratio (width / height) of the crop.
        flip: Probability of a horizontal flip.
        operations: Number of RandAugment operations, 0 to 10; 0 turns RandAugment off.
        magnitude: Mean magnitude of the RandAugment operations, 0 to 10.
        deviation: Standard deviation of that magnitude.
        erase: Probability of random erasing.
        mixup: Alpha of Mixup's Beta distribution; 0 turns Mixup off.
        cutmix: Alpha of CutMix's Beta distribution; 0 turns CutMix off. If Mixup and CutMix are
            both on, every view uses one of them, each with probability 0.5.
        rule: "project" for this project's rules, or "paper" for those of the paper's code, see
            `paper_views`. The paper's rules allow no other settings than the defaults, except
            Mixup and CutMix of whole batches.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (0.75, 4 / 3)
    flip: float = 0.5
    operations: int = 2
    magnitude: float = 9.0
    deviation: float = 0.5
    erase: float = 0.25
    mixup: float = 0.0
    cutmix: float = 0.0
    rule: Literal["project", "paper"] = "project"

    def __post_init__(self) -> None:
        self._check_ranges()
        changed = [
            item.name
            for item in fields(self)
            if item.name not in ("mixup", "cutmix", "rule")
            and getattr(self, item.name) != item.default
        ]
        if self.rule == "paper" and changed:
            raise RequestError(
                f'the augmentation rule "paper" was combined with another value of {changed[0]}',
                'leave out this setting, or use the rule "project"',
            )

    def _check_ranges(self) -> None:
        is_valid = (
            0 < self.scale[0] <= self.scale[1] <= 1
            and 0 < self.ratio[0] <= self.ratio[1]
            and 0 <= self.flip <= 1
            and 0 <= self.erase <= 1
            and 0 <= self.operations <= _MAX_OPERATIONS
            and 0 <= self.magnitude <= MAX_MAGNITUDE
            and self.deviation >= 0
            and self.mixup >= 0
            and self.cutmix >= 0
        )
        if not is_valid:
            raise RequestError(
                f"the augmentation settings are not valid: {self}",
                "use values from 0 to 1 for flip and erase, from 0 to 10 for operations and "
                "magnitude, and of at least 0 for deviation, mixup and cutmix; scale and ratio "
                "need two values above 0, the smaller one first, and scale at most 1",
            )
