"""Teachers for tests, written as a user would write them: functions that return torch modules."""

from __future__ import annotations

import torch
from torch import nn


def small() -> nn.Module:
    """1,000 classes from images of any size, with probabilities that are far from uniform."""
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
    """Multiplies logits, so that the probabilities become confident."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C) -> (B, C)."""
        return 20 * x


def three_classes() -> nn.Module:
    """Three classes from images of any size."""
    torch.manual_seed(1)
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 3))


def nan_output() -> nn.Module:
    """Returns NaN for everything."""
    model = small()
    nn.init.constant_(model[4].weight, float("nan"))
    return model


def two_outputs() -> nn.Module:
    """Returns two tensors instead of one."""

    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    return Pair()


def fixed_size() -> nn.Module:
    """Accepts only images of 32 x 32 pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))


def wrong_labels() -> nn.Module:
    """Has labels of the wrong type and number."""
    model = three_classes()
    model.labels = ["a", "b"]
    return model


def missing_package() -> nn.Module:
    """Imports a package that does not exist."""
    import no_such_package  # type: ignore[import-not-found]

    return no_such_package.model()  # type: ignore[no-any-return]


def not_a_module() -> str:
    """Returns a string instead of a module."""
    return "resnet"
