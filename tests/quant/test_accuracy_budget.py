import numpy as np
import pytest

from tinyvit.manifest import TensorSpec
from tinyvit.preprocess import timm_preprocess
from tinyvit.quant.accuracy_budget import (
    AccuracyBudget,
    ArtifactOutputs,
    PairedComparison,
    compare_outputs,
    run_artifact,
)


def given(top1, classes=None):
    logits = np.zeros((len(top1), 4), np.float32)
    logits[np.arange(len(top1)), top1] = 1
    return ArtifactOutputs(logits, None if classes is None else np.asarray(classes))


def test_flips_are_counted_both_ways():
    found = compare_outputs(given([0, 1, 2, 3]), given([0, 1, 3, 2], classes=[0, 1, 2, 2]))
    assert (found.top1, found.float_top1, found.drop) == (75, 75, 0)
    assert (found.worse, found.better, found.agreement) == (1, 1, 50)
    assert found.margin == pytest.approx(100 * 1.96 * np.sqrt(2) / 4)  # two flips in four pairs


def test_without_classes_agreement_decides():
    found = compare_outputs(given([0, 1, 2, 3]), given([0, 1, 2, 2]))
    assert (found.agreement, found.drop, found.top1) == (75, None, None)
    assert found.within(AccuracyBudget(min_agreement=75))
    assert not found.within(AccuracyBudget(min_agreement=75.1))
    assert "75.0% of 4 images" in str(found)


def test_with_classes_the_drop_decides_and_a_gain_is_no_loss():
    lost = PairedComparison(1000, 50, top1=84.7, float_top1=85.2, worse=5)
    assert lost.within(
        AccuracyBudget(max_drop=0.5, min_agreement=100)
    )  # 85.2 - 84.7 is a little over 0.5 in floating point
    assert not lost.within(AccuracyBudget(max_drop=0.4))
    assert PairedComparison(1000, 50, top1=86, float_top1=85.2, better=8).within(
        AccuracyBudget(max_drop=0)
    )
    assert "a drop of 0.5" in str(lost)


class Fake:
    """A network whose logits are the first pixel's channels: what is asked here is which rows come back."""

    def __init__(self):
        self.sizes = []

    def run(self, batch):
        self.sizes.append(len(batch))
        return batch[:, :, 0, 0]


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1] * 5), (2, [2] * 3), ("batch", [3, 2])])
def test_a_fixed_batch_is_filled_and_cut(batch, sizes):
    from types import SimpleNamespace

    preprocess = timm_preprocess(32)
    manifest = SimpleNamespace(
        input=TensorSpec("image", (batch, 3, 32, 32), "float32", "NCHW"), preprocess=preprocess
    )
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    runtime = Fake()
    found = run_artifact(
        runtime, manifest, lambda: iter([(pixels[:3], np.arange(3)), (pixels[3:], np.arange(3, 5))])
    )
    assert runtime.sizes == sizes
    assert (found.logits == preprocess.normalize(pixels)[:, :, 0, 0]).all()
    assert (found.classes == np.arange(5)).all()
