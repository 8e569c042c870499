"""Embeddings and feature maps equal those of timm, also at sizes that are not square."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from tests.helpers.golden_weights import load_formulas, make_golden_state
from tinyvit.errors import CheckpointError, RequestError
from tinyvit.image_sizes import ImageSize
from tinyvit.manifest_parts import OutputSpec
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.checkpoints.loading import load_checkpoint
from tinyvit.nn.fold import fold_model
from tinyvit.nn.model import TinyViT, find_output_request
from tinyvit.outputs import make_output_request, parse_stages
from tinyvit.variants import VARIANTS

FIVE_M = VARIANTS["tiny_vit_5m_224"]
WINDOWS = (7, 7, 14, 7)


@pytest.fixture(scope="module")
def golden_checkpoint(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The golden network of tiny_vit_5m_224 in the layout of timm."""
    path = tmp_path_factory.mktemp("golden") / "weights.pth"
    torch.save(make_golden_state(shared, "tiny_vit_5m_224", "timm"), path)
    return load_checkpoint(path)


@pytest.fixture(scope="module")
def golden(shared: Path) -> Any:
    return np.load(shared / "golden" / "tiny_vit_5m_224.timm.sizes.npz")


@pytest.mark.parametrize("size", [224, 256, 288, 448])
def test_the_embedding_is_that_of_timm(
    golden_checkpoint: Checkpoint, golden: Any, shared: Path, size: int
) -> None:
    network = golden_checkpoint.at_size(size).build(make_output_request("embedding"))
    image = torch.from_numpy(load_formulas(shared).image(size, 1))
    with torch.inference_mode():
        embedding = fold_model(network)(image).numpy()
    assert embedding.shape == (1, 320)
    assert np.abs(embedding - golden[f"embedding_{size}"]).max() < 1e-5


def test_the_feature_maps_are_those_of_timm(
    golden_checkpoint: Checkpoint, golden: Any, shared: Path
) -> None:
    """The golden file has every second row and column."""
    network = golden_checkpoint.at_size(256).build(make_output_request("features"))
    image = torch.from_numpy(load_formulas(shared).image(256, 1))
    with torch.inference_mode():
        maps = fold_model(network)(image)
    assert [tuple(m.shape) for m in maps] == [
        (1, 64, 64, 64),
        (1, 128, 32, 32),
        (1, 160, 16, 16),
        (1, 320, 8, 8),
    ]
    for stage, feature_map in enumerate(maps):
        expected = golden[f"features_256_{stage}"]
        difference = np.abs(feature_map[:, :, ::2, ::2].numpy() - expected).max()
        # The values of the last stage reach 1118, where float32 numbers are 1.2e-4 apart.
        assert difference < 1e-5 * max(1, np.abs(expected).max())


def make_waves(height: int, width: int) -> torch.Tensor:
    """Return one image, float32 (1, 3, height, width), of a formula without random numbers."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64) / max(height, width)
    planes = [
        np.sin((3 + k) * 2 * np.pi * x + k) * np.cos((2 + k) * 2 * np.pi * y) for k in range(3)
    ]
    return torch.from_numpy(np.stack(planes)[None].astype(np.float32))


@pytest.mark.parametrize(
    ("size", "logits"),
    [
        ((320, 256), [-0.68749, 0.37629, 0.29889, 0.18053, -0.55832, -0.41987]),
        ((96, 64), [-0.77912, 0.86202, -1.24453, 1.70392, 1.13586, -0.19981]),
        ((225, 131), [-0.48254, 0.53668, 0.13524, 0.588, -0.37066, -0.04455]),
        ((64, 1024), [-0.50425, 1.05877, -0.13331, -0.60165, -0.2524, -0.83557]),
    ],
)
def test_other_shapes_give_the_logits_of_timm(
    golden_checkpoint: Checkpoint, size: tuple[int, int], logits: list[float]
) -> None:
    """The literals are what timm 1.0.31 computes with the golden weights, (height, width)."""
    network = fold_model(golden_checkpoint.at_size(size).build())
    with torch.inference_mode():
        first = network(make_waves(*size))[0, :6]
    assert first.tolist() == pytest.approx(logits, abs=2e-5)


def test_each_output_is_described() -> None:
    with torch.device("meta"):
        embedding = TinyViT(FIVE_M, 0, (96, 64), WINDOWS)
        features = TinyViT(FIVE_M, 10, (65, 33), WINDOWS, feature_stages=(0, 2))
    assert embedding.describe_outputs() == (
        OutputSpec("embedding", ("batch", 320), "float32", "NC", "embedding"),
    )
    assert features.describe_outputs() == (
        OutputSpec("stage0", ("batch", 64, 17, 9), "float32", "NCHW", "features", 4),
        OutputSpec("stage2", ("batch", 160, 5, 3), "float32", "NCHW", "features", 16),
    )


def test_a_request_follows_from_the_description_of_the_outputs() -> None:
    for request in (
        make_output_request("logits"),
        make_output_request("embedding"),
        make_output_request("features", (0, 3)),
    ):
        with torch.device("meta"):
            classes = 5 if request.kind == "logits" else 0
            network = TinyViT(FIVE_M, classes, 64, WINDOWS, request.stages)
        assert find_output_request(network.describe_outputs()) == request


def test_stages_after_the_last_requested_one_have_no_weights() -> None:
    with torch.device("meta"):
        network = TinyViT(FIVE_M, 10, 64, WINDOWS, feature_stages=(1,))
    assert {name.split(".")[0] for name in network.state_dict()} == {"patch_embed", "stages"}
    assert len(network.stages) == 2


def save_headless(tmp_path: Path) -> Path:
    """Save a network without a classifier, as timm does with num_classes=0."""
    path = tmp_path / "headless.pth"
    torch.save(TinyViT(FIVE_M, 0, 224).state_dict(), path)
    return path


def test_a_checkpoint_without_a_classifier_is_read_on_request(tmp_path: Path) -> None:
    path = save_headless(tmp_path)
    checkpoint = load_checkpoint(path, requires_classifier=False)
    assert (checkpoint.num_classes, checkpoint.labels, checkpoint.labels_source) == (0, None, "")
    network = checkpoint.at_size((96, 64)).build(make_output_request("embedding"))
    assert network.describe_outputs()[0].shape == ("batch", 320)
    with pytest.raises(RequestError, match=r"has no classifier .* give --output embedding"):
        checkpoint.build()
    with pytest.raises(CheckpointError, match=r"saved without one .* tinyvit-export --output"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("kind", "stages", "message"),
    [
        ("probabilities", None, "--output probabilities is not possible: use one of logits, emb"),
        ("out/", None, "the path of the file is given with -o"),
        ("embedding", (1,), "--stages 1 selects feature maps, and --output is embedding"),
        ("features", (), "--stages is not possible"),
        ("features", (1, 1), "--stages 1,1 is not possible"),
        ("features", (3, 4), "--stages 3,4 is not possible"),
    ],
)
def test_impossible_outputs_are_refused(
    kind: str, stages: tuple[int, ...] | None, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        make_output_request(kind, stages)


def test_stages_are_sorted_and_all_by_default() -> None:
    assert make_output_request("features").stages == (0, 1, 2, 3)
    assert make_output_request("features", parse_stages("3,1")).stages == (1, 3)


@pytest.mark.parametrize(("size", "windows"), [((320, 256), "scaled"), (250, "scaled")])
def test_windows_are_not_scaled_to_other_shapes(
    golden_checkpoint: Checkpoint, size: ImageSize, windows: Any
) -> None:
    with pytest.raises(RequestError, match="--windows scaled is not possible at"):
        golden_checkpoint.at_size(size, windows)
    assert golden_checkpoint.at_size(size).windows == "checkpoint"
