"""A network with NaN or infinite logits is refused, and is not called a defect of an engine."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn

from tests.helpers.demo_network import make_demo_manifest
from tinyvit.errors import CheckpointError
from tinyvit.export.manifest_builder import make_golden_vectors


class ConstantNetwork(nn.Module):
    """Returns the same logit for every class of every image."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit
        self.head = nn.Module()
        self.head.fc = nn.Linear(1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return torch.full((images.shape[0], 10), self.logit)


@pytest.mark.parametrize("logit", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_are_refused(logit: float) -> None:
    network: Any = ConstantNetwork(logit)  # in place of a TinyViT, because it is only called
    with pytest.raises(CheckpointError) as caught:
        make_golden_vectors(network, make_demo_manifest("onnx"))
    assert caught.value.cause.endswith(
        "computes NaN or infinite logits from test images, so its weights are too large"
    )
    assert caught.value.remedy == "give a checkpoint that classifies images in PyTorch"
