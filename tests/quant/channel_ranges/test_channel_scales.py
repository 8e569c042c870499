"""Channels are rescaled right before and after layers without changing what a network computes."""

from __future__ import annotations

import copy

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from tinyvit.nn.layers import ChannelScale, ScalePoint
from tinyvit.nn.model import TinyViT
from tinyvit.quant.calibration import calibrate
from tinyvit.quant.channel_ranges.channel_scales import (
    find_scale_points,
    remove_unused_scales,
    rescale_channels,
    scaled_layer_name,
)
from tinyvit.quant.quantized_network import quantize_network
from tinyvit.quant.recipe import Recipe
from tinyvit.quant.sensitivity import SimulatedNetwork
from tinyvit.quant_scheme import QuantScheme

MBCONV, MLP = "stages.0.blocks.1", "stages.1.blocks.0.mlp"
POINTS = {
    "patch_embed.conv2_input": 32,
    "patch_embed.conv2_output": 64,
    f"{MBCONV}.conv1_input": 64,
    f"{MBCONV}.conv1_output": 256,
    f"{MBCONV}.conv2_input": 256,
    f"{MBCONV}.conv2_output": 256,
    f"{MBCONV}.conv3_input": 256,
    f"{MBCONV}.conv3_output": 64,
    "stages.2.downsample.conv1_input": 128,
    "stages.2.downsample.conv1_output": 160,
    "stages.2.downsample.conv3_input": 160,
    "stages.2.downsample.conv3_output": 160,
    f"{MLP}.fc1_output": 512,
    f"{MLP}.fc2_input": 512,
}
"""One tensor of each kind -> its number of channels."""
EXPONENTS = {
    name: tuple(torch.randint(-3, 4, (count,), generator=torch.Generator().manual_seed(count)))
    for name, count in POINTS.items()
}
EXPONENTS = {name: tuple(map(int, values)) for name, values in EXPONENTS.items()}


def compute_logits(network: TinyViT, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(images)


def scale_names(network: TinyViT) -> set[str]:
    return {name for name, module in network.named_modules() if isinstance(module, ChannelScale)}


@pytest.fixture
def scaled_network(folded_network: TinyViT) -> TinyViT:
    network = copy.deepcopy(folded_network)
    rescale_channels(network, EXPONENTS)
    return network


def test_a_rescaled_network_computes_the_same(
    folded_network: TinyViT, scaled_network: TinyViT, noise_images: Tensor
) -> None:
    assert {*POINTS} <= {*find_scale_points(folded_network)}
    assert scale_names(scaled_network) == {*POINTS}
    expected = compute_logits(folded_network, noise_images[:4])
    difference = compute_logits(scaled_network, noise_images[:4]) - expected
    assert float(difference.abs().max()) < 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("name", POINTS)
def test_the_factors_are_in_the_tensor(
    folded_network: TinyViT, scaled_network: TinyViT, noise_images: Tensor, name: str
) -> None:
    tensors = []
    for network in (folded_network, scaled_network):
        layer = network.get_submodule(scaled_layer_name(name))
        is_output = name.endswith("_output")
        hook = layer.register_forward_hook(
            lambda _, inputs, output, is_output=is_output: tensors.append(
                output if is_output else inputs[0]
            )
        )
        compute_logits(network, noise_images[:2])
        hook.remove()
    exponents = torch.tensor(EXPONENTS[name])
    factors = (-exponents if is_output else exponents).float().exp2()
    shape = (1, -1, 1, 1) if tensors[0].ndim == 4 else (1, -1)
    assert torch.allclose(tensors[1], tensors[0] * factors.reshape(shape), rtol=1e-3, atol=1e-4)


def test_factors_that_are_not_used_return_to_the_weights_exactly(
    folded_network: TinyViT, scaled_network: TinyViT
) -> None:
    remove_unused_scales(scaled_network, lambda name: name == f"{MLP}.fc2_input")
    assert scale_names(scaled_network) == {f"{MLP}.fc2_input"}
    assert isinstance(scaled_network.get_submodule(f"{MBCONV}.conv2_input"), ScalePoint)
    remove_unused_scales(scaled_network, lambda _: False)
    expected = folded_network.state_dict()
    actual = scaled_network.state_dict()
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], value) for name, value in expected.items())


def make_recipe(network: TinyViT, images: Tensor, float_units: tuple[str, ...] = ()) -> Recipe:
    return Recipe("abc", 64, calibrate(network, images), 8, float_units, "", "", len(images))


def test_a_scheme_multiplies_only_what_it_quantizes(
    scaled_network: TinyViT, noise_images: Tensor
) -> None:
    recipe = make_recipe(scaled_network, noise_images[:8], (f"{MBCONV}.conv3",))
    quantized = {name for name in POINTS if not name.startswith(f"{MBCONV}.conv3")}
    inputs = {name for name in quantized if name.endswith("_input")}
    convolutions = quantized - inputs - {f"{MLP}.fc1_output"}
    expected: dict[str, set[str]] = {
        "none": inputs,
        "convolutions": inputs | convolutions,
        "all": inputs | convolutions | {f"{MLP}.fc1_output"},
    }
    for outputs in ("none", "convolutions", "all"):
        scheme = QuantScheme(quantized_outputs=outputs)
        assert scale_names(quantize_network(scaled_network, recipe, scheme)) == expected[outputs]


@pytest.mark.parametrize("outputs", ["none", "all"])
def test_sensitivity_compares_outputs_with_the_same_factors(
    scaled_network: TinyViT, noise_images: Tensor, outputs: str
) -> None:
    recipe = make_recipe(scaled_network, noise_images[:8])
    scheme = QuantScheme(quantized_outputs=outputs)  # type: ignore[arg-type]
    simulated = SimulatedNetwork(scaled_network, recipe, scheme, noise_images[:2])
    errors = simulated.compare_outputs()
    assert errors[f"{MLP}.fc1"].error.cosine > 0.95
    assert errors[f"{MBCONV}.conv1"].error.cosine > 0.95
