"""Attention windows at other image sizes: padded as in timm, or scaled as in the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from tests.helpers.golden_weights import load_formulas, make_golden_state
from tinyvit.distill.training.network.student import make_student, save_checkpoint
from tinyvit.errors import RequestError
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.checkpoints.loading import load_checkpoint
from tinyvit.nn.checkpoints.training_windows import TrainingWindows, find_training_windows
from tinyvit.nn.cost import count_macs
from tinyvit.nn.fold import fold_model, unfold_model
from tinyvit.nn.model import TinyViT
from tinyvit.nn.window_grid import WindowGrid
from tinyvit.variants import VARIANTS


@pytest.fixture(scope="module")
def golden_checkpoint(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The golden network of tiny_vit_5m_224 in the layout of timm."""
    path = tmp_path_factory.mktemp("golden") / "weights.pth"
    torch.save(make_golden_state(shared, "tiny_vit_5m_224", "timm"), path)
    return load_checkpoint(path)


@pytest.mark.parametrize("size", [224, 256, 288, 448])
def test_padded_windows_give_the_logits_of_timm(
    golden_checkpoint: Checkpoint, shared: Path, size: int
) -> None:
    golden = np.load(shared / "golden" / "tiny_vit_5m_224.timm.sizes.npz")
    image = torch.from_numpy(load_formulas(shared).image(size, 1))
    model = golden_checkpoint.at_size(size).build()
    folded = fold_model(model)
    with torch.inference_mode():
        for network in (model, folded, unfold_model(folded)):
            assert np.abs(network(image).numpy() - golden[f"logits_{size}"]).max() < 1e-5


def test_scaled_windows_are_another_network(golden_checkpoint: Checkpoint, shared: Path) -> None:
    golden = np.load(shared / "golden" / "tiny_vit_5m_224.timm.sizes.npz")["logits_288"]
    image = torch.from_numpy(load_formulas(shared).image(288, 1))
    with torch.inference_mode():
        logits = golden_checkpoint.at_size(288, "scaled").build()(image).numpy()
    assert np.abs(logits - golden).max() > 0.01


@pytest.mark.parametrize("size", [32, 96, 256])
def test_padded_images_of_a_batch_do_not_affect_each_other(
    golden_checkpoint: Checkpoint, size: int
) -> None:
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    model = fold_model(golden_checkpoint.at_size(size).build())
    with torch.inference_mode():
        one_by_one = torch.cat([model(image[None]) for image in images])
        assert (model(images) - one_by_one).abs().max() < 1e-5


def test_training_reaches_every_parameter_of_a_padded_network() -> None:
    model = TinyViT(VARIANTS["tiny_vit_5m_224"], 10, 64, window_sizes=(7, 7, 14, 7)).train()
    model(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []


def test_a_padded_map_is_split_and_joined_again() -> None:
    grid = WindowGrid(window=2, height=3, width=3)
    assert (grid.rows, grid.columns, grid.padding) == (2, 2, (1, 1))
    tokens = torch.arange(1.0, 10).reshape(9, 1)
    windows = grid.split(tokens)
    assert windows.flatten().tolist() == [1, 2, 4, 5, 3, 0, 6, 0, 7, 8, 0, 0, 9, 0, 0, 0]
    assert torch.equal(grid.join(windows), tokens)


def test_a_window_that_is_larger_than_the_map_is_padded() -> None:
    grid = WindowGrid(window=3, height=2, width=2)
    assert (grid.rows, grid.columns, grid.padding) == (1, 1, (1, 1))
    windows = grid.split(torch.arange(1.0, 5).reshape(4, 1))
    assert windows.flatten().tolist() == [1, 2, 0, 3, 4, 0, 0, 0, 0]


def test_nothing_is_padded_where_windows_fit() -> None:
    assert [WindowGrid(7, side, side).is_padded for side in (7, 14, 28)] == [False] * 3
    tokens = torch.randn(49, 4)
    assert WindowGrid(7, 7, 7).split(tokens) is tokens


def test_padding_costs_multiply_accumulates() -> None:
    variant = VARIANTS["tiny_vit_5m_224"]
    with torch.device("meta"):
        padded = TinyViT(variant, 1000, 256, window_sizes=(7, 7, 14, 7))
        scaled = TinyViT(variant, 1000, 256)
    assert count_macs(padded) > count_macs(scaled) > variant.macs


def save_state(tmp_path: Path, size: int, **entries: Any) -> Path:
    """Save a small checkpoint of timm's layout whose windows belong to `size`."""
    state = TinyViT(VARIANTS["tiny_vit_5m_224"], 7, size).state_dict()
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": state, **entries}, path)
    return path


def test_a_size_in_the_arguments_of_the_training_is_the_size_of_the_checkpoint(
    tmp_path: Path,
) -> None:
    checkpoint = load_checkpoint(save_state(tmp_path, 224, args={"img_size": 288}))
    assert (checkpoint.img_size, checkpoint.preprocess.size) == (288, 288)
    assert checkpoint.window_sizes == (7, 7, 14, 7)
    assert checkpoint.windows == "checkpoint"
    assert checkpoint.at_size(288) is checkpoint
    assert checkpoint.describe_windows() == (
        "7, 14, 7 tokens as in the checkpoint, with padded feature maps"
    )
    scaled = checkpoint.at_size(288, "scaled")
    assert (scaled.window_sizes, scaled.windows) == ((9, 9, 18, 9), "scaled")
    assert scaled.describe_windows() == (
        "scaled to 9, 18, 9 tokens, with interpolated attention biases"
    )
    at_224 = checkpoint.at_size(224)
    assert (at_224.pads_windows, at_224.describe_windows()) == (False, None)


def test_windows_that_divide_the_feature_maps_are_not_padded(tmp_path: Path) -> None:
    doubled = load_checkpoint(save_state(tmp_path, 224)).at_size(448)
    assert (doubled.window_sizes, doubled.windows) == ((7, 7, 14, 7), "checkpoint")
    assert (doubled.pads_windows, doubled.has_proportional_windows) == (False, False)
    assert doubled.describe_windows() == "7, 14, 7 tokens as in the checkpoint, without padding"
    assert doubled.at_size(448, "scaled").window_sizes == (14, 14, 28, 14)


def test_other_sizes_keep_the_windows_of_timms_layout(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(save_state(tmp_path, 224))
    resized = checkpoint.at_size(256)
    assert (resized.window_sizes, resized.windows) == ((7, 7, 14, 7), "checkpoint")
    assert resized.build().window_sizes == (7, 7, 14, 7)
    assert resized.preprocess == checkpoint.at_size(256, "scaled").preprocess


def test_a_request_for_scaled_windows_at_the_own_size_changes_nothing(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(save_state(tmp_path, 224))
    assert checkpoint.at_size(224, "scaled") is checkpoint


def test_a_student_of_a_padded_checkpoint_is_saved_with_its_size(tmp_path: Path) -> None:
    init = load_checkpoint(save_state(tmp_path, 224, args={"img_size": 256}))
    student = make_student(None, init, None, init.num_classes, size=None, seed=0)
    assert (student.model.img_size, student.model.window_sizes) == (256, (7, 7, 14, 7))
    path = tmp_path / "student.safetensors"
    save_checkpoint(path, student.model.state_dict(), student.labels, student.preprocess, "mit")
    saved = load_checkpoint(path)
    assert (saved.img_size, saved.window_sizes) == (256, (7, 7, 14, 7))
    scaled = make_student(None, init, None, init.num_classes, size=288, seed=0)
    assert (scaled.model.img_size, scaled.model.window_sizes) == (288, (9, 9, 18, 9))


def test_an_unknown_kind_of_windows_is_refused(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(save_state(tmp_path, 224))
    with pytest.raises(RequestError, match="--windows padded is not possible: use checkpoint"):
        checkpoint.at_size(256, "padded")  # type: ignore[arg-type]


PAPER = {"config": {"DATA": {"IMG_SIZE": 384}}}


@pytest.mark.parametrize(
    ("metadata", "config", "layout", "window_size", "expected"),
    [
        ({}, {}, "timm", 224, (224, "checkpoint")),
        ({}, {}, "official", 224, (224, "checkpoint")),
        (PAPER, {}, "official", 384, (384, "scaled")),
        (PAPER, {}, "official", 224, (384, "checkpoint")),
        ({"args": {"img_size": None, "input_size": [3, 256, 256]}}, {}, "timm", 224, (256,)),
        ({"args": {"img_size": 320}}, {}, "official", 224, (320, "checkpoint")),
        ({"hyper_parameters": {"img_size": 320}}, {}, "timm", 224, (320, "checkpoint")),
        ({"img_size": 320}, {}, "timm", 224, (320, "checkpoint")),
        ({"args": {"img_size": "288"}}, {}, "timm", 224, (288, "checkpoint")),
        ({"args": {"img_size": 288.0}}, {}, "timm", 224, (288, "checkpoint")),
        ({"args": {"model_kwargs": {"img_size": 288}, "img_size": 224}}, {}, "timm", 224, (288,)),
        ({"cfg": {"data": {"image_size": [288, 288]}}}, {}, "timm", 224, (288, "checkpoint")),
        ({"pretrained_cfg": {"input_size": [3, 256, 256]}}, {}, "timm", 224, (256, "checkpoint")),
        ({}, {"model_args": {"img_size": 288}}, "timm", 224, (288, "checkpoint")),
        ({}, {"image_size": 288}, "timm", 224, (288, "checkpoint")),
        ({}, {"pretrained_cfg": {"input_size": [3, 288, 288]}}, "timm", 224, (288, "checkpoint")),
        ({"preprocess": {"size": 288}}, {}, "timm", 224, (288, "checkpoint")),
        ({"args": {"img_size": 300}}, {}, "timm", 224, (300, "checkpoint")),
        ({"args": {"input_size": [3, 256, 320]}}, {}, "timm", 224, ((256, 320), "checkpoint")),
        ({"args": {"img_size": [320, 320]}}, {}, "timm", 224, (320, "checkpoint")),
        ({"args": {"img_size": "big"}}, {}, "timm", 224, (224, "checkpoint")),
        ({"args": {"img_size": True}}, {}, "timm", 224, (224, "checkpoint")),
        ({"args": None, "config": "a.yaml"}, {}, "timm", 224, (224, "checkpoint")),
    ],
)
def test_the_size_of_the_training_is_found(
    metadata: dict[str, Any],
    config: dict[str, Any],
    layout: str,
    window_size: int,
    expected: tuple[Any, ...],
) -> None:
    windows = find_training_windows(metadata, config, layout, window_size)
    assert (windows.img_size, windows.default)[: len(expected)] == expected


def test_sources_are_read_in_the_stated_order() -> None:
    found = find_training_windows(
        {"args": {"img_size": 288}}, {"model_args": {"img_size": 256}}, "timm", 224
    )
    assert (found.img_size, found.reason) == (288, "the network was trained so, at 288 pixels")


@pytest.mark.parametrize(
    ("size", "text"), [(31, "31"), ([3, 256, 2048], "(256, 2048)"), (4096, "4096")]
)
def test_a_size_that_cannot_be_exported_is_named(size: object, text: str) -> None:
    windows = find_training_windows({"args": {"input_size": size}}, {}, "timm", 224)
    assert windows.img_size == 224
    assert windows.notes == (
        f"the image size in the training arguments in the checkpoint is {text}, at which TinyViT "
        "cannot be exported; 224 pixels are used instead, and --img-size chooses another size",
    )


def test_sizes_that_disagree_are_named() -> None:
    metadata = {"args": {"img_size": 288}}
    config = {"pretrained_cfg": {"input_size": [3, 224, 224]}}
    windows: TrainingWindows = find_training_windows(metadata, config, "timm", 224)
    assert windows.img_size == 288
    assert windows.notes == (
        "the image size in config.json is 224, and in the training arguments in the checkpoint "
        "288; 288 is used",
    )
