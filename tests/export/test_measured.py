"""What several targets share is measured once, but only where it is the same."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch

from tinyvit.export import targets
from tinyvit.export.budget_search import SharedMeasurements, Workspace
from tinyvit.export.manifest_builder import build_manifest
from tinyvit.export.tracing import trace
from tinyvit.nn.fold import fold_model
from tinyvit.nn.hub import load_released
from tinyvit.nn.model import TinyViT

SOURCE = load_released("demo").at_size(64)


def workshop(folder: Path, network: TinyViT) -> Workspace:
    return Workspace(
        folder,
        targets.get_target("onnx"),
        network,
        trace(network),
        build_manifest(SOURCE, SOURCE.labels, 1, "host"),
    )


def test_float32_is_measured_again_only_where_it_answers_otherwise(tmp_path: Path) -> None:
    network = fold_model(SOURCE.build())
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.head.fc.bias += 0.1
    pixels = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
    measured, said, answers = SharedMeasurements(), [], []
    for i, one in enumerate((network, network, other, network)):
        (tmp_path / str(i)).mkdir()
        shop = workshop(tmp_path / str(i), one)
        answers.append(
            measured.answers(
                shop,
                shop.save(shop.lower(shop.graph, "float32"), "float32"),
                lambda: iter([(pixels, None)]),
                said.append,
            )
        )
    assert answers[0].logits.shape == (20, 10)
    assert answers[1] is answers[0]
    assert np.abs(answers[2].logits - answers[0].logits - 0.1).max() < 1e-4
    assert answers[3] is answers[0]
    assert len(said) == 2
