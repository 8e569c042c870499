"""Equalization keeps what a network computes, and removes its outlier channels."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.fold import fold_model
from tinyvit.nn.model import TinyViT
from tinyvit.quant.calibration import calibrate
from tinyvit.quant.channel_ranges.equalization import (
    Equalization,
    equalize_network,
    find_downsampling,
)
from tinyvit.quant.channel_ranges.equalization_choice import (
    balance,
    choose_outliers,
    find_equalization,
)
from tinyvit.quant.quantized_network import quantize_network, quantized_units
from tinyvit.quant.recipe import Recipe
from tinyvit.quant_scheme import QuantScheme
from tinyvit.variants import VARIANTS

ATTENTION, MLP = "stages.2.blocks.1.attn", "stages.1.blocks.0.mlp"
MBCONV, DOWNSAMPLING = "stages.0.blocks.1", "stages.2.downsample.conv1"
HIDDEN_OUTLIERS = (3, 100, 101, 300)


def compute_logits(network: TinyViT, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(images)


def channel_ranges(network: TinyViT, images: Tensor, name: str) -> Tensor:
    """The largest absolute value of each channel of the output of a module."""
    ranges: list[Tensor] = []
    hook = network.get_submodule(name).register_forward_hook(
        lambda _module, _inputs, output: ranges.append(output.abs().amax(0))
    )
    compute_logits(network, images)
    hook.remove()
    return ranges[0]


def enlarge_value_channel(network: TinyViT) -> None:
    """Multiply a value channel by 64, which the projection undoes."""
    attention = network.get_submodule(ATTENTION)
    attention.qkv.v.weight[7] *= 64
    attention.proj.weight[:, 7] /= 64


def enlarge_key_channel(network: TinyViT) -> None:
    """Multiply a key channel by 64, which the queries undo."""
    attention = network.get_submodule(ATTENTION)
    attention.qkv.k.weight[40] *= 64
    attention.qkv.q.weight[40] /= 64
    attention.qkv.q.bias[40] /= 64


def enlarge_mlp_channels(network: TinyViT) -> None:
    """Give four hidden channels of an MLP 64 times the input of their GELU."""
    mlp = network.get_submodule(MLP)
    channels = list(HIDDEN_OUTLIERS)
    mlp.fc1.weight[channels] *= 64
    mlp.fc2.weight[:, channels] /= 64


def enlarge_mbconv_channels(network: TinyViT) -> None:
    """Give two hidden channels of an MBConv 64 times the input of their GELU."""
    block = network.get_submodule(MBCONV)
    block.conv1.weight[[5, 200]] *= 64
    block.conv2.weight[[5, 200]] /= 64


def add_constant(network: TinyViT) -> None:
    """Add a constant to the output of a stage, which the next layer subtracts."""
    network.get_submodule("stages.1.blocks")[-1].mlp.fc2.bias[9] += 500
    convolution = network.get_submodule(DOWNSAMPLING)
    convolution.bias -= 500 * convolution.weight[:, 9, 0, 0]


CHANGES: dict[Callable[[TinyViT], None], tuple[str, str]] = {
    enlarge_value_channel: ("exponents", f"{ATTENTION}.qkv.v"),
    enlarge_key_channel: ("exponents", f"{ATTENTION}.qkv.q"),
    enlarge_mlp_channels: ("outliers", MLP),
    enlarge_mbconv_channels: ("outliers", MBCONV),
    add_constant: ("offsets", DOWNSAMPLING),
}
"""Function that makes a network hard to quantize -> kind and name of the change that it needs."""


@pytest.fixture(params=CHANGES, ids=lambda change: change.__name__)
def change(request: pytest.FixtureRequest) -> Callable[[TinyViT], None]:
    return request.param


@pytest.fixture
def hard_network(folded_network: TinyViT, change: Callable[[TinyViT], None]) -> TinyViT:
    network = copy.deepcopy(folded_network)
    with torch.no_grad():
        change(network)
    return network


def test_a_network_without_outliers_stays_as_it_is(
    folded_network: TinyViT, noise_images: Tensor
) -> None:
    equalization = find_equalization(folded_network, noise_images)
    assert equalization == Equalization()
    equalized = equalize_network(folded_network, equalization)
    images = noise_images[:2]
    assert torch.equal(compute_logits(equalized, images), compute_logits(folded_network, images))


def test_the_logits_stay_the_same(
    hard_network: TinyViT, change: Callable[[TinyViT], None], noise_images: Tensor
) -> None:
    equalization = find_equalization(hard_network, noise_images)
    kind, name = CHANGES[change]
    assert list(getattr(equalization, kind)) == [name]
    assert sum(map(len, vars(equalization).values())) == 1
    equalized = equalize_network(hard_network, equalization)
    images = noise_images[:4]
    difference = compute_logits(equalized, images) - compute_logits(hard_network, images)
    # The demo model's logits are up to 5 here, and the constant of 500 loses 8 bits of float32.
    tolerance = 1e-3 if change is add_constant else 1e-5
    assert float(difference.abs().max()) < tolerance


def test_equal_images_give_the_same_equalization(
    hard_network: TinyViT, noise_images: Tensor
) -> None:
    first = find_equalization(hard_network, noise_images)
    assert find_equalization(hard_network, noise_images.flip(0)) == first


def test_int8_has_a_smaller_error(
    hard_network: TinyViT, change: Callable[[TinyViT], None], noise_images: Tensor
) -> None:
    """The error of the changed part alone becomes less than a quarter."""
    images = noise_images[:8]
    reference = compute_logits(hard_network, images)
    _, name = CHANGES[change]
    part = name.removesuffix(".qkv.v").removesuffix(".qkv.q")
    errors = []
    for network in (
        hard_network,
        equalize_network(hard_network, find_equalization(hard_network, noise_images)),
    ):
        recipe = Recipe("abc", 64, calibrate(network, noise_images), 8, (), "", "", 24)
        units = quantized_units(network, recipe, QuantScheme())
        other_units = tuple(unit for unit in units if not unit.startswith(part))
        quantized = quantize_network(
            network, recipe.with_more_float_units(other_units), QuantScheme()
        )
        errors.append(float((compute_logits(quantized, images) - reference).square().mean()))
    assert errors[1] < errors[0] / 4


def test_outliers_of_an_mlp_become_units_of_their_own(
    folded_network: TinyViT, recipe: Recipe
) -> None:
    equalization = Equalization(outliers={MLP: (0, 2, 4, 6, 8, 10, 12, 511)})
    network = equalize_network(folded_network, equalization)
    mlp = network.get_submodule(MLP)
    assert mlp.fc1.weight.shape == (504, 128)
    assert mlp.fc2.weight.shape == (128, 504)
    assert mlp.outliers.fc1.weight.shape == (8, 128)
    assert mlp.outliers.fc2.weight.shape == (128, 8)
    assert mlp.outliers.fc2.bias is None
    original = folded_network.get_submodule(MLP)
    assert torch.equal(mlp.outliers.fc1.weight[7], original.fc1.weight[511])
    assert torch.equal(mlp.fc1.weight[0], original.fc1.weight[1])
    units = {*quantized_units(network, recipe, QuantScheme())}
    assert units - {*quantized_units(folded_network, recipe, QuantScheme())} == {
        f"{MLP}.outliers.fc1",
        f"{MLP}.outliers.fc2",
    }


def test_a_layer_norm_with_an_outlier_channel_gets_a_scale(
    folded_network: TinyViT, noise_images: Tensor
) -> None:
    network = copy.deepcopy(folded_network)
    # One channel of the residual stream dominates the LayerNorm of every token.
    with torch.no_grad():
        network.get_submodule("stages.1.downsample.conv3").bias[17] += 1000
    equalization = find_equalization(network, noise_images)
    name = "stages.1.blocks.0.attn.norm"
    exponents = equalization.exponents[name]
    assert exponents[17] <= -3
    assert max(exponents) == 0
    equalized = equalize_network(network, equalization)
    ranges = channel_ranges(equalized, noise_images, name)
    assert ranges[17] <= 3 * ranges.median()
    images = noise_images[:4]
    expected = compute_logits(network, images)
    assert torch.allclose(compute_logits(equalized, images), expected, atol=1e-4)


def test_balanced_channels_have_equal_ratios() -> None:
    first, second = torch.tensor([1.0, 4.0, 16.0, 0.0]), torch.tensor([1.0, 1.0, 1.0, 1.0])
    # 2^1 / 2^-1, 4 / 1 and 16 * 2^-1 / 2^1 are all 4; the last channel is not used.
    assert balance(first, second) == (1, 0, -1, 0)
    assert balance(torch.zeros(2), torch.ones(2)) == (0, 0)
    assert balance(torch.tensor([1.0, 1.0, 1e30]), torch.ones(3)) == (0, 0, -12)


def test_hidden_outliers_are_chosen_in_groups_of_eight() -> None:
    ranges = torch.ones(256)
    ranges[[9, 4, 200]] = 50.0
    assert choose_outliers([ranges]) == (0, 1, 2, 3, 4, 5, 9, 200)
    # An outlier of any tensor counts.
    assert choose_outliers([torch.ones(256), ranges]) == (0, 1, 2, 3, 4, 5, 9, 200)
    ranges[[9, 4, 200]] = 3.9
    assert choose_outliers([ranges]) == ()
    # More than 1/32 of the channels are not outliers.
    ranges[:9] = 50.0
    assert choose_outliers([ranges]) == ()


@pytest.mark.parametrize(
    "equalization",
    [
        Equalization(exponents={"stages.9.blocks.0.attn.qkv.v": (1,)}),
        Equalization(exponents={f"{ATTENTION}.qkv.v": (1,)}),
        Equalization(exponents={f"{ATTENTION}.qkv.q": (99,) * 160}),
        Equalization(exponents={f"{ATTENTION}.proj": (1,) * 160}),
        Equalization(exponents={f"{MLP}.norm": (1,)}),
        Equalization(offsets={"stages.1.downsample.conv1": (1.0,) * 64}),
        Equalization(offsets={DOWNSAMPLING: (1.0,)}),
        Equalization(offsets={DOWNSAMPLING: (1e300,) * 128}),
        Equalization(outliers={ATTENTION: (1,)}),
        Equalization(outliers={MLP: (1, 1)}),
        Equalization(outliers={MLP: (2, 1)}),
        Equalization(outliers={MLP: (-1,)}),
        Equalization(outliers={MLP: (512,)}),
        Equalization(outliers={MLP: ()}),
        Equalization(scales={f"{MLP}.fc2_input": (1,)}),
        Equalization(scales={f"{MLP}.fc2_input": (99,) * 512}),
        Equalization(scales={f"{MLP}.fc2": (1,) * 512}),
    ],
)
def test_an_equalization_of_another_network_is_refused(
    folded_network: TinyViT, equalization: Equalization
) -> None:
    with pytest.raises(ValueError, match="does not fit the network"):
        equalize_network(folded_network, equalization)


def test_the_checkpoint_is_not_changed(small_checkpoint: Checkpoint, noise_images: Tensor) -> None:
    folded = fold_model(small_checkpoint.build())
    before = {name: value.clone() for name, value in folded.state_dict().items()}
    equalize_network(folded, Equalization(exponents={f"{ATTENTION}.qkv.v": (2,) * 160}))
    assert all(torch.equal(value, before[name]) for name, value in folded.state_dict().items())


def test_feature_maps_that_are_returned_get_no_constant() -> None:
    """A constant in the last layer of a stage would change its feature map."""
    variant = VARIANTS["tiny_vit_5m_224"]
    for stages, expected in (((2, 3), {2}), ((0, 3), {2, 3}), ((1, 2), set()), ((0,), set())):
        network = fold_model(TinyViT(variant, 0, 64, feature_stages=stages))
        names = {f"stages.{index}.downsample.conv1" for index in expected}
        assert find_downsampling(network).keys() == names
