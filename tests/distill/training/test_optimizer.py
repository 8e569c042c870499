"""Learning rates, weight decay, averaged weights and stochastic depth follow the paper's code."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tinyvit.distill.training.network.drop_path import add_drop_path
from tinyvit.distill.training.optimizer import (
    compute_learning_rate,
    compute_learning_rate_factor,
    make_optimizer,
    make_weight_average,
)
from tinyvit.distill.training.presets import PRESETS
from tinyvit.nn.model import TinyViT
from tinyvit.variants import VARIANTS

CONFIG = replace(PRESETS["finetune-1k"], epochs=10, warmup_epochs=2)


@pytest.fixture(scope="module")
def model() -> TinyViT:
    """A network with random weights, ten classes, at 64 pixels."""
    return TinyViT(VARIANTS["tiny_vit_5m_224"], 10, 64)


def test_every_weight_is_in_one_group_and_vectors_have_no_decay(model: TinyViT) -> None:
    optimizer = make_optimizer(model, replace(CONFIG, weight_decay=0.05))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {
        names[id(p)]: group["weight_decay"]
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert decayed.keys() == set(names.values())
    for name, parameter in model.named_parameters():
        exempt = parameter.ndim == 1 or name.endswith((".bias", "attention_biases"))
        assert decayed[name] == (0.0 if exempt else 0.05), name


@pytest.mark.parametrize(
    ("name", "power"),
    [
        ("head.fc.weight", 0),
        ("head.norm.weight", 0),
        ("stages.3.blocks.1.mlp.fc1.weight", 0),
        ("stages.3.blocks.0.mlp.fc1.weight", 1),
        ("stages.3.downsample.conv1.conv.weight", 2),  # at the end of the paper's third stage
        ("stages.2.blocks.5.attn.qkv.weight", 2),
        ("stages.2.blocks.0.attn.qkv.weight", 7),
        ("stages.1.downsample.conv2.conv.weight", 10),
        ("stages.0.blocks.1.conv1.conv.weight", 10),
        ("stages.0.blocks.0.conv1.conv.weight", 11),
        ("patch_embed.conv1.conv.weight", 11),
    ],
)
def test_earlier_layers_have_smaller_learning_rates(model: TinyViT, name: str, power: int) -> None:
    """The powers are those of set_layer_lr_decay in microsoft/Cream, for 12 blocks."""
    assert compute_learning_rate_factor(model, name, 0.8) == pytest.approx(0.8**power)


@pytest.mark.parametrize(
    ("name", "batch", "steps_per_epoch", "rates"),
    [
        (
            "scratch-1k",
            1024,
            1251,
            {
                0: 1e-6,
                1: 1e-6,
                2: 1.0399280575539568e-6,
                12510: 5.004600719424461e-4,
                25020: 9.999600719424462e-4,
                25021: 9.891830623632338e-4,
                187650: 5.050041435874329e-4,
                375299: 1.0000000069370954e-5,
            },
        ),
        (
            "pretrain-22k",
            4096,
            3466,
            {
                1: 4e-6,
                2: 4.115175995383727e-6,
                17330: 1.9998848240046162e-3,
                17331: 1.985111597951964e-3,
                155970: 1.0200098697211019e-3,
                311939: 4.000000019879873e-5,
            },
        ),
        (
            "finetune-1k",
            1024,
            1251,
            {
                1: 1e-6,
                2: 1.0797761790567545e-6,
                6255: 4.999202238209463e-4,
                6256: 4.678460969082653e-4,
                18765: 2.6002009012086283e-4,
                37529: 2.0000003363441312e-5,
            },
        ),
        (
            "finetune-384",
            1024,
            1251,
            {
                1: 4e-8,
                2: 4.6388489208633094e-8,
                6255: 3.999361151079137e-5,
                6256: 3.734730299493189e-5,
                18765: 2.020165743497118e-5,
                37529: 4.000002774839082e-7,
            },
        ),
    ],
)
def test_learning_rates_are_those_of_the_papers_code(
    name: str, batch: int, steps_per_epoch: int, rates: dict[int, float]
) -> None:
    """The rates are those that main.py sets before each optimizer step, with timm 0.4.12.

    With t = max(step - 1, 0) and f = batch / 512, the rate is f * (warmup_lr + t * (lr - warmup_lr)
    / warmup_steps) for t < warmup_steps, and then f * (min_lr + (lr - min_lr) / 2 * (1 + cos(pi * t
    / all steps))). ImageNet-1k has 1,251 steps of 1,024 images per epoch, and ImageNet-22k 3,466
    of 4,096. With --accumulation-steps 4 and a quarter of the batch, main.py gives the same rates.
    """
    found = {
        step: compute_learning_rate(PRESETS[name], step, steps_per_epoch, batch) for step in rates
    }
    assert found == pytest.approx(rates, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("scratch-1k", 177.1193364649849),
        ("finetune-1k", 8.264792520467402),
        ("finetune-512", 0.6387111504385544),
    ],
)
def test_the_sum_of_all_learning_rates_is_the_papers(name: str, total: float) -> None:
    config = PRESETS[name]
    rates = [
        compute_learning_rate(config, step, 1251, 1024) for step in range(config.epochs * 1251)
    ]
    assert sum(rates) == pytest.approx(total, rel=1e-9)


def test_a_warmup_of_less_than_one_step_is_left_out() -> None:
    config = replace(CONFIG, warmup_epochs=0.5)
    assert compute_learning_rate(config, 0, 1, 512) == pytest.approx(config.lr)


def test_the_average_follows_weights_and_copies_norm_statistics(model: TinyViT) -> None:
    average = make_weight_average(model, 0.99)
    name = "head.fc.bias"
    with torch.no_grad():
        model.head.fc.bias.fill_(0.0)
        average.update_parameters(model)  # the first is a copy
        model.head.fc.bias.fill_(1.0)
        model.stages[0].blocks[0].conv1.bn.running_mean.fill_(7.0)  # type: ignore[index,union-attr]
        average.update_parameters(model)
    assert average.module.get_parameter(name)[0].item() == pytest.approx(1 - 2 / 11)
    assert average.module.get_buffer("stages.0.blocks.0.conv1.bn.running_mean")[0].item() == 7.0
    index = "bias_index_4"
    assert torch.equal(average.module.get_buffer(index), model.get_buffer(index))


@pytest.mark.parametrize(
    "branch", ["stages.0.blocks.1.conv3", "stages.2.blocks.5.attn", "stages.3.blocks.1.mlp"]
)
def test_branches_are_dropped_for_single_images(branch: str) -> None:
    model = TinyViT(VARIANTS["tiny_vit_5m_224"], 10, 64)
    drop_path = add_drop_path(model, 0.5)
    drop_path.draw(64, seed=0)
    drop_path.select(0, 64, "cpu")
    module = model.get_submodule(branch)
    seen: list[torch.Tensor] = []
    module.register_forward_hook(lambda *args: seen.append(args[-1].detach()))
    images = torch.randn(1, 3, 64, 64).expand(64, -1, -1, -1)
    with torch.no_grad():
        model.train()
        for norm in model.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.eval()
        model(images)
        per_image = seen[-1].reshape(64, -1)
        dropped = (per_image == 0).all(1)
        assert 0 < dropped.sum() < 64
        assert (per_image[~dropped] != 0).any(1).all()
        model.eval()
        seen.clear()
        model(images)
        assert not (seen[-1].reshape(64, -1) == 0).all(1).any()


def test_the_first_block_is_never_dropped(model: TinyViT) -> None:
    torch.manual_seed(0)
    dropping = TinyViT(model.variant, 10, 64)
    drop_path = add_drop_path(dropping, 0.9)
    drop_path.draw(16, seed=0)
    drop_path.select(0, 16, "cpu")
    seen: list[torch.Tensor] = []
    dropping.get_submodule("stages.0.blocks.0.conv3").register_forward_hook(
        lambda *args: seen.append(args[-1].detach())
    )
    dropping.train()(torch.randn(16, 3, 64, 64))
    assert (seen[0].reshape(16, -1) != 0).any(1).all()
