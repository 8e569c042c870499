"""Teachers for tests, as a user would write them."""

from __future__ import annotations

import torch
from torch import nn


def small() -> nn.Module:
    """1000 classes from any size, and far from even."""
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
    """Makes answers sure of themselves."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C) -> (B, C)."""
        return 20 * x


def three() -> nn.Module:
    """Of three classes."""
    torch.manual_seed(1)
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 3))


def broken() -> nn.Module:
    """Answers NaN to everything."""
    model = small()
    nn.init.constant_(model[4].weight, float("nan"))
    return model


def pair() -> nn.Module:
    """Answers two tensors."""

    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    return Pair()


def narrow() -> nn.Module:
    """Takes pictures of 32 pixels only."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))


def misnamed() -> nn.Module:
    """Has labels that are none."""
    model = three()
    model.labels = ["a", "b"]
    return model


def homeless() -> nn.Module:
    """Needs what is not there."""
    import no_such_package  # type: ignore[import-not-found]

    return no_such_package.model()  # type: ignore[no-any-return]


def nothing() -> str:
    """No module."""
    return "resnet"
