"""Measurements that several targets share are made once, but only where they are the same."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch

from tests.helpers.recorded_progress import RecordedProgress
from tinyvit.export.int8.shared_measurements import SharedMeasurements
from tinyvit.export.manifest_builder import build_manifest
from tinyvit.export.targets import get_target
from tinyvit.export.tracing import trace
from tinyvit.export.workspace import Workspace
from tinyvit.nn.model import TinyViT


def test_float32_is_measured_again_only_if_its_logits_differ(
    demo_source: Any, tmp_path: Path
) -> None:
    network = demo_source.folded
    changed = copy.deepcopy(network)
    with torch.no_grad():
        changed.head.fc.bias += 0.1
    pixels = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)

    def make_batches() -> Iterator[tuple[Any, None]]:
        return iter([(pixels, None)])

    graphs = {network: demo_source.graph, changed: trace(changed)}

    def open_workspace(name: str, folded: TinyViT) -> Workspace:
        (tmp_path / name).mkdir()
        manifest = build_manifest(demo_source.checkpoint, demo_source.labels, 1, "host")
        target = get_target("onnx")
        return Workspace(tmp_path / name, target, folded, graphs[folded], manifest)

    measurements, progress, outputs = SharedMeasurements(), RecordedProgress(), []
    for i, folded in enumerate((network, network, changed, network)):
        workspace = open_workspace(str(i), folded)
        float32 = workspace.save(workspace.lower(workspace.graph, "float32"), "float32")
        outputs.append(measurements.run_float32(workspace, float32, make_batches, 20, progress))
    assert outputs[0].logits.shape == (20, 12)
    assert outputs[1] is outputs[0]
    assert np.abs(outputs[2].logits - outputs[0].logits - 0.1).max() < 1e-4
    assert outputs[3] is outputs[0]
    assert len(progress.messages) == 2
    assert progress.steps[0] == ("measuring float32, images", 1, 20)
    assert progress.steps[19] == ("measuring float32, images", 20, 20)
