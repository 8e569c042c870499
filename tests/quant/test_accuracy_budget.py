"""int8 outputs are compared with float32 outputs, and the budget decides about the loss."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

from tinyvit.manifest_parts import TensorSpec
from tinyvit.metrics import PairedComparison
from tinyvit.preprocess import timm_preprocess
from tinyvit.quant.accuracy_budget import (
    AccuracyBudget,
    ArtifactOutputs,
    compare_outputs,
    run_artifact,
)


def outputs(top1: Sequence[int], classes: Sequence[int] | None = None) -> ArtifactOutputs:
    """Outputs for 4 classes whose largest logits are at `top1`."""
    logits = np.zeros((len(top1), 4), np.float32)
    logits[np.arange(len(top1)), top1] = 1
    return ArtifactOutputs((logits,), None if classes is None else np.asarray(classes))


def test_flips_are_counted_in_both_directions() -> None:
    comparison = compare_outputs(outputs([0, 1, 2, 3]), outputs([0, 1, 3, 2], classes=[0, 1, 2, 2]))
    assert (comparison.top1, comparison.reference_top1, comparison.drop) == (75, 75, 0)
    assert (comparison.worse, comparison.better, comparison.agreement) == (1, 1, 50)
    assert comparison.interval == pytest.approx((-60.410424, 60.410424), abs=1e-6)


def test_without_classes_the_agreement_decides() -> None:
    comparison = compare_outputs(outputs([0, 1, 2, 3]), outputs([0, 1, 2, 2]))
    assert (comparison.agreement, comparison.drop, comparison.top1) == (75, None, None)
    assert AccuracyBudget(min_agreement=75).allows(comparison)
    assert not AccuracyBudget(min_agreement=75.1).allows(comparison)
    assert "75.0% of 4 images" in comparison.describe("float32")


def test_with_classes_the_drop_decides() -> None:
    # 85.2 - 84.7 is a little above 0.5 in floating point.
    comparison = PairedComparison(1000, 50, top1=84.7, reference_top1=85.2, worse=5)
    assert AccuracyBudget(max_drop=0.5, min_agreement=100).allows(comparison)
    assert not AccuracyBudget(max_drop=0.4).allows(comparison)
    assert "a drop of 0.5" in comparison.describe("float32")


def test_a_gain_is_within_every_budget() -> None:
    comparison = PairedComparison(1000, 50, top1=86, reference_top1=85.2, better=8)
    assert AccuracyBudget(max_drop=0).allows(comparison)


class FirstPixelRuntime:
    """A runtime whose logits are the channels of the first pixel. It records batch sizes."""

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []

    def run_outputs(self, batch: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32]]:
        self.batch_sizes.append(len(batch))
        return (batch[:, :, 0, 0],)


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize(
    ("batch", "expected_sizes"), [(1, [1] * 5), (2, [2] * 3), ("batch", [3, 2])]
)
def test_a_fixed_batch_is_padded_and_cut(
    batch: int | str, expected_sizes: list[int], streams: int
) -> None:
    preprocess = timm_preprocess(32)
    manifest = SimpleNamespace(
        input=TensorSpec("image", (batch, 3, 32, 32), "float32", "NCHW"),
        preprocess=preprocess,
        output_kind="logits",
    )
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    runtime = FirstPixelRuntime()
    batches = [(pixels[:3], np.arange(3)), (pixels[3:], np.arange(3, 5))]
    finished: list[int] = []
    result = run_artifact(
        runtime, manifest, lambda: iter(batches), finished.append, streams=streams
    )
    assert sorted(runtime.batch_sizes, reverse=True) == expected_sizes
    assert finished[-1] == 5
    assert (result.logits == preprocess.normalize(pixels)[:, :, 0, 0]).all()
    assert (result.correct_classes == np.arange(5)).all()
