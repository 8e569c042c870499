"""Teachers for tests, written as users write them: functions that return a torch module.

Unless stated otherwise, a module maps images (B, 3, H, W) of any size to logits (B, classes).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn


def small() -> nn.Module:
    """Make a teacher of 1,000 classes whose probabilities are far from uniform."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 1000, bias=False),
        Scaled(),
    )


class Scaled(nn.Module):
    """Multiplies logits by 20, so that one class gets most of the probability."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply the logits, (B, classes), by 20."""
        return 20 * x


def three_classes() -> nn.Module:
    """Make a teacher of three classes."""
    torch.manual_seed(1)
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 3))


def nan_output() -> nn.Module:
    """Make a teacher whose logits are NaN."""
    model = small()
    nn.init.constant_(model[4].weight, float("nan"))
    return model


def two_outputs() -> nn.Module:
    """Make a module that wrongly returns two tensors."""

    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    return Pair()


def fixed_size() -> nn.Module:
    """Make a teacher that accepts only images of 32 x 32 pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))


def only_224() -> nn.Module:
    """Make a teacher that accepts only images of 224 x 224 pixels, the size of the default."""
    return nn.Sequential(nn.AvgPool2d(32), nn.Flatten(), nn.Linear(3 * 7 * 7, 3))


@dataclass
class Settings:
    """Settings of `with_settings`; dataclasses need the module of this file in sys.modules."""

    classes: int = 3
    sizes: list[int] = field(default_factory=lambda: [4, 4])


def with_settings() -> nn.Module:
    """Make a teacher in bfloat16 with settings from a dataclass."""
    settings = Settings()
    torch.manual_seed(1)
    return nn.Sequential(
        Bfloat16(),
        nn.AdaptiveAvgPool2d(settings.sizes[0]),
        nn.Flatten(),
        nn.Linear(48, settings.classes, dtype=torch.bfloat16),
    )


class Bfloat16(nn.Module):
    """Converts images to bfloat16."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convert images (B, 3, H, W)."""
        return x.bfloat16()


def wrong_labels() -> nn.Module:
    """Make a teacher of three classes whose labels have the wrong type and number."""
    model = three_classes()
    model.labels = ["a", "b"]
    return model


def missing_package() -> nn.Module:
    """Import a package that does not exist, as on a machine without the teacher's package."""
    import no_such_package  # type: ignore[import-not-found]

    return no_such_package.model()  # type: ignore[no-any-return]


def not_a_module() -> str:
    """Return a string instead of a module, which is wrong."""
    return "resnet"
