"""The network computes what the public implementations compute, before and after folding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from tests.helpers.golden_weights import load_formulas, make_golden_state
from tinyvit.nn.attention import FusedProjection, make_bias_index
from tinyvit.nn.checkpoints.loading import load_checkpoint
from tinyvit.nn.fold import fold_model
from tinyvit.nn.layers import ConvNorm
from tinyvit.nn.model import TinyViT
from tinyvit.variants import VARIANTS


@pytest.mark.parametrize("layout", ["timm", "official"])
@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(name, marks=pytest.mark.slow) if variant.img_size > 224 else name
        for name, variant in VARIANTS.items()
    ],
)
def test_logits_are_those_of_the_public_implementation(
    variant: str, layout: str, shared: Path, tmp_path: Path
) -> None:
    state = make_golden_state(shared, variant, layout)
    torch.save({"model": state} if layout == "official" else state, tmp_path / "weights.pth")
    loaded = load_checkpoint(tmp_path / "weights.pth")
    assert (loaded.variant.name, loaded.layout, loaded.num_classes) == (variant, layout, 1000)
    expected = np.load(shared / "golden" / f"{variant}.{layout}.npz")["logits"]
    images = torch.from_numpy(load_formulas(shared).image(loaded.img_size, len(expected)))
    model = loaded.build()
    with torch.inference_mode():
        assert np.abs(model(images).numpy() - expected).max() < 1e-5
        assert np.abs(fold_model(model)(images).numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_layouts_hold_the_same_network(variant: str, shared: Path, tmp_path: Path) -> None:
    """Every tensor under its name in the other layout, biases included, gets the same place."""
    timm = make_golden_state(shared, variant, "timm")
    official = dict(zip(official_names(timm), timm.values()))
    torch.save({"model": official}, tmp_path / "official.pth")
    loaded = load_checkpoint(tmp_path / "official.pth")
    assert loaded.layout == "official"
    assert all(torch.equal(loaded.state_dict[key], value) for key, value in timm.items())


def official_names(keys: Iterable[str]) -> Iterator[str]:
    """Convert key names of timm to those of the paper's code, independently of the package."""
    for key in keys:
        parts = key.replace(".conv.weight", ".c.weight").split(".")
        if parts[0] == "patch_embed":
            parts[1:2] = ["seq", {"conv1": "0", "conv2": "2"}[parts[1]]]
        elif parts[0] == "head":
            parts = ["norm_head" if parts[1] == "norm" else "head", parts[2]]
        else:
            parts[:2] = ["layers", str(int(parts[1]) - (parts[2] == "downsample"))]
        yield ".".join(parts)


def test_folding_leaves_nothing_to_fold() -> None:
    model = TinyViT(VARIANTS["tiny_vit_5m_224"], 10)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    folded = fold_model(model)
    assert not any(
        isinstance(module, (ConvNorm, torch.nn.BatchNorm2d, FusedProjection))
        for module in folded.modules()
    )
    norms_with_scale = [
        name
        for name, module in folded.named_modules()
        if isinstance(module, torch.nn.LayerNorm) and module.elementwise_affine
    ]
    assert norms_with_scale == ["head.norm"]
    assert any(isinstance(module, ConvNorm) for module in model.modules())
    image = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert (model.eval()(image) - folded(image)).abs().max() < 1e-4


def test_images_of_a_batch_do_not_affect_each_other() -> None:
    model = fold_model(TinyViT(VARIANTS["tiny_vit_5m_224"], 10))
    images = torch.randn(3, 3, 224, 224)
    with torch.inference_mode():
        one_by_one = torch.cat([model(image[None]) for image in images])
        assert (model(images) - one_by_one).abs().max() < 1e-5


def test_training_reaches_every_parameter() -> None:
    model = TinyViT(VARIANTS["tiny_vit_5m_224"], 10, img_size=64).train()
    model(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []


def test_bias_indices_have_the_order_of_the_papers_code() -> None:
    window = 5
    index_by_distance: dict[tuple[int, int], int] = {}
    expected = []
    points = [(row, column) for row in range(window) for column in range(window)]
    for a in points:
        for b in points:
            distance = (abs(a[0] - b[0]), abs(a[1] - b[1]))
            expected.append(index_by_distance.setdefault(distance, len(index_by_distance)))
    assert make_bias_index(window).tolist() == expected
