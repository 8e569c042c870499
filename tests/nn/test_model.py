import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tinyvit.nn import checkpoint  # noqa: E402
from tinyvit.nn.fold import fold_model  # noqa: E402
from tinyvit.nn.model import ConvNorm, FusedProjection, TinyViT, attention_bias_index  # noqa: E402
from tinyvit.variants import VARIANTS  # noqa: E402


@pytest.mark.parametrize("layout", ["timm", "official"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_the_public_implementations(
    variant, layout, shared, fill, golden_state, tmp_path
):
    state = golden_state(variant, layout, as_golden=True)
    torch.save({"model": state} if layout == "official" else state, tmp_path / "weights.pth")
    loaded = checkpoint.load_checkpoint(tmp_path / "weights.pth")
    assert (loaded.variant.name, loaded.layout, loaded.num_classes) == (variant, layout, 1000)
    expected = np.load(shared / "golden" / f"{variant}.{layout}.npz")["logits"]
    images = torch.from_numpy(fill.image(loaded.img_size, len(expected)))
    model = loaded.build()
    with torch.inference_mode():
        assert np.abs(model(images).numpy() - expected).max() < 1e-4
        assert np.abs(fold_model(model)(images).numpy() - expected).max() < 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_layouts_hold_the_same_network(variant, golden_state, tmp_path):
    """The same tensors in the same order under the other layout's names: every one of them, biases included, lands in the same place."""
    timm = golden_state(variant, "timm")
    torch.save({"model": dict(zip(official_names(timm), timm.values()))}, tmp_path / "official.pth")
    loaded = checkpoint.load_checkpoint(tmp_path / "official.pth")
    assert loaded.layout == "official"
    assert all(torch.equal(loaded.state_dict[key], value) for key, value in timm.items())


def official_names(keys):
    """timm's names in the paper's words, written out the long way."""
    for key in keys:
        parts = key.replace(".conv.weight", ".c.weight").split(".")
        if parts[0] == "patch_embed":
            parts[1:2] = ["seq", {"conv1": "0", "conv2": "2"}[parts[1]]]
        elif parts[0] == "head":
            parts = ["norm_head" if parts[1] == "norm" else "head", parts[2]]
        else:
            parts[:2] = ["layers", str(int(parts[1]) - (parts[2] == "downsample"))]
        yield ".".join(parts)


def test_folding_leaves_nothing_to_fold():
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
    affine = [
        name
        for name, module in folded.named_modules()
        if isinstance(module, torch.nn.LayerNorm) and module.elementwise_affine
    ]
    assert affine == ["head.norm"]
    assert any(isinstance(module, ConvNorm) for module in model.modules())
    image = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert (model.eval()(image) - folded(image)).abs().max() < 1e-4


def test_a_batch_is_its_images_one_by_one():
    model = fold_model(TinyViT(VARIANTS["tiny_vit_5m_224"], 10))
    images = torch.randn(3, 3, 224, 224)
    with torch.inference_mode():
        assert (
            model(images) - torch.cat([model(image[None]) for image in images])
        ).abs().max() < 1e-5


def test_training_reaches_every_parameter():
    model = TinyViT(VARIANTS["tiny_vit_5m_224"], 10, img_size=64).train()
    model(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_bias_index_is_the_order_in_which_the_papers_code_meets_distances():
    window, seen, expected = 5, {}, []
    points = [(row, column) for row in range(window) for column in range(window)]
    for a in points:
        for b in points:
            expected.append(seen.setdefault((abs(a[0] - b[0]), abs(a[1] - b[1])), len(seen)))
    assert attention_bias_index(window).tolist() == expected
