"""Hard checkpoints compute what the original computes, with numbers that are hard to quantize."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch
from PIL import Image
from torch import Tensor

import tinyvit
from tests.helpers.recorded_progress import RecordedProgress
from tinyvit.metrics import PairedComparison
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.checkpoints.hub import load_released
from tinyvit.nn.checkpoints.loading import load_checkpoint
from tinyvit.nn.model import TinyViT
from tinyvit.studies.hard_checkpoints import rescaling
from tinyvit.studies.hard_checkpoints.__main__ import main, make_row, make_verdict_row
from tinyvit.studies.hard_checkpoints.finetuning import (
    FinetuningConfig,
    finetune,
    start_outlier_channels,
)
from tinyvit.studies.hard_checkpoints.members import MEMBER_NAMES, MemberMaker
from tinyvit.studies.hard_checkpoints.quantizers import QuantizationResult

DEMO_PATH = Path(tinyvit.__file__).with_name("assets") / "demo.safetensors"
SIZE = 64
RESCALED_LAYERS = {
    rescaling.rescale_values: "stages.2.blocks.1.attn.proj",
    rescaling.rescale_keys: "stages.2.blocks.1.attn.qkv",
    rescaling.rescale_norms: "stages.2.blocks.1.mlp.fc1",
    rescaling.add_offsets: "stages.2.downsample.conv1",
}
"""A function of `rescaling` -> a layer whose input, or keys, then have outlier channels."""


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """The demo model at 64 pixels."""
    return load_released("demo").at_size(SIZE, "scaled")


@pytest.fixture(scope="module")
def network(checkpoint: Checkpoint) -> TinyViT:
    return checkpoint.build()


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Normalized images of noise, float32 (4, 3, 64, 64)."""
    return torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def compute_logits(network: TinyViT, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(images)


def outlier_ratio(network: TinyViT, images: Tensor, name: str) -> float:
    """The range of the largest channel of a layer's input, divided by that of the median one.

    For a layer of queries, keys and values, the channels are those of the keys.
    """
    ratios: list[Tensor] = []

    def record(_: torch.nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        tensor = output[1] if isinstance(output, tuple) else inputs[0]
        channels = tensor if tensor.ndim == 2 else tensor.movedim(1, -1).flatten(0, 2)
        ranges = channels.abs().amax(0)
        ratios.append(ranges.max() / ranges.median())

    hook = network.get_submodule(name).register_forward_hook(record)
    compute_logits(network, images)
    hook.remove()
    return float(ratios[0])


@pytest.mark.parametrize("change", RESCALED_LAYERS, ids=lambda change: change.__name__)
def test_a_rescaled_network_computes_the_same(
    network: TinyViT,
    images: Tensor,
    change: Callable[[TinyViT, torch.Generator], None],
) -> None:
    rescaled = copy.deepcopy(network)
    change(rescaled, torch.Generator().manual_seed(0))
    difference = compute_logits(rescaled, images) - compute_logits(network, images)
    assert float(difference.abs().max()) < 2e-5
    name = RESCALED_LAYERS[change]
    assert outlier_ratio(network, images, name) < 12
    assert outlier_ratio(rescaled, images, name) > 30


def test_outliers_are_30_to_100_times_as_large() -> None:
    outliers = rescaling.draw_outliers(1000, torch.Generator().manual_seed(0))
    assert 30 <= float(outliers.min()) < 31
    assert 99 < float(outliers.max()) <= 100


def test_the_seed_determines_a_member(checkpoint: Checkpoint, images: Tensor) -> None:
    first, again, other = (
        MemberMaker(checkpoint, images, 1, seed, RecordedProgress()).make("combined").state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    name = "stages.1.blocks.0.attn.qkv.weight"
    assert not torch.equal(first[name], other[name])


def test_outlier_channels_start_with_nearly_the_same_answers(
    network: TinyViT, images: Tensor
) -> None:
    started = copy.deepcopy(network).requires_grad_(False)
    start_outlier_channels(started, torch.Generator().manual_seed(0))
    assert outlier_ratio(started, images, "stages.2.blocks.1.mlp.fc2") > 10
    expected = compute_logits(network, images)
    difference = compute_logits(started, images) - expected
    assert 1e-4 < float(difference.abs().max()) < 0.5 * float(expected.abs().max())


def test_fine_tuning_leaves_the_original_and_lowers_the_penalty(
    network: TinyViT, images: Tensor
) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    config = FinetuningConfig("weights", steps=6, batch=2, learning_rate=1e-3)
    progress = RecordedProgress()
    tuned = finetune(network, images, config, progress)
    assert progress.done == [1, 2, 3, 4, 5, 6]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    name = "stages.2.blocks.1.mlp.fc1.weight"
    assert kurtosis(tuned.state_dict()[name]) > 1.02 * kurtosis(before[name])


def kurtosis(weight: Tensor) -> float:
    """The mean kurtosis of the rows of a weight."""
    rows = weight.double().numpy()
    deviations = rows - rows.mean(1, keepdims=True)
    return float(((deviations**4).mean(1) / (deviations**2).mean(1) ** 2).mean())


def test_a_saved_member_is_a_checkpoint(
    checkpoint: Checkpoint, images: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "values.safetensors"
    MemberMaker(checkpoint, images, 1, 0, RecordedProgress()).save("values", path)
    member = load_checkpoint(path)
    assert (member.img_size, member.labels) == (SIZE, checkpoint.labels)
    assert member.preprocess == checkpoint.preprocess
    difference = compute_logits(member.build(), images) - compute_logits(checkpoint.build(), images)
    assert 0 < float(difference.abs().max()) < 2e-5


def test_rows_and_verdicts() -> None:
    lossy = QuantizationResult(
        "onnxruntime",
        "onnxruntime",
        PairedComparison(200, agreement=80.0, top1=72.5, reference_top1=84.5, worse=25, better=1),
        integer_share=0.872,
        is_default=True,
    )
    missing = QuantizationResult("nncf", is_default=True, note="not installed")
    assert make_row("values", lossy) == (
        "| values | onnxruntime | 84.5% | 72.5% | 12.0 | 25 / 1 | 80.0% | 87.2% |  |"
    )
    assert make_row("values", missing) == "| values | nncf |  |  |  |  |  |  | not installed |"
    assert make_verdict_row("values", [lossy, missing]) == (
        "| values |  |  |  |  |  |  |  | hard: a default loses 12.0 points |"
    )
    assert make_verdict_row("values", [missing]).endswith(
        "| not hard: a default loses 0.0 points |"
    )


@pytest.mark.slow
def test_the_command_writes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for folder in ("train", "val"):
        for wnid in ("n01440764", "n07920052"):
            (tmp_path / folder / wnid).mkdir(parents=True)
            for index in range(16):
                pixels = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / folder / wnid / f"{index}.png")
    arguments = [str(DEMO_PATH), "--members", "original", "values"]
    arguments += ["--train-data", str(tmp_path / "train"), "--val-data", str(tmp_path / "val")]
    arguments += ["--img-size", str(SIZE), "--calib-count", "32", "-o", str(tmp_path / "out")]
    assert main(arguments) == 0
    table = (tmp_path / "out" / "table.md").read_text()
    assert table == capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[4:]]
    assert {row[0] for row in rows} == {"original", "values"}
    quantizers = {row[1]: row for row in rows if row[0] == "values"}
    float32_top1 = quantizers["onnxruntime, per channel"][2]
    assert all(row[2] == float32_top1 for row in quantizers.values() if row[3])
    own_row = quantizers["tinyvit, onnx, no search"]
    assert float(own_row[7].rstrip("%")) > 85


def test_every_member_is_described_in_the_documentation() -> None:
    page = Path(__file__).parents[2] / "docs" / "lab-notes" / "int8.md"
    text = page.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in MEMBER_NAMES)
