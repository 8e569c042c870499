"""Factors of channels are chosen where they reduce the predicted error of int8 several times."""

from __future__ import annotations

import copy

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn

from tinyvit.nn.model import TinyViT
from tinyvit.quant.calibration import calibrate
from tinyvit.quant.channel_ranges.channel_scale_choice import (
    choose_input_exponents,
    choose_output_exponents,
    find_channel_scales,
    predict_error,
)
from tinyvit.quant.channel_ranges.equalization import equalize_network
from tinyvit.quant.channel_ranges.equalization_choice import find_equalization
from tinyvit.quant.channel_ranges.tensor_samples import TensorSample, sample_rows
from tinyvit.quant.quantized_layers import ActivationQuantizer, QuantizedLayer
from tinyvit.quant.quantized_network import quantize_network
from tinyvit.quant.recipe import Recipe
from tinyvit.quant_scheme import QuantScheme

MBCONV, MLP = "stages.0.blocks.1", "stages.1.blocks.0.mlp"
DOWNSAMPLING = "stages.2.downsample.conv1"


def enlarge_mlp_channels(network: TinyViT) -> None:
    """Give one of eight hidden channels of an MLP 32 times the input of their GELU."""
    mlp = network.get_submodule(MLP)
    mlp.fc1.weight[::8] *= 32
    mlp.fc1.bias[::8] *= 32
    mlp.fc2.weight[:, ::8] /= 32


def enlarge_mbconv_channels(network: TinyViT) -> None:
    """Give one of eight hidden channels of an MBConv 32 times the input of their first GELU."""
    block = network.get_submodule(MBCONV)
    block.conv1.weight[::8] *= 32
    block.conv1.bias[::8] *= 32
    block.conv2.weight[::8] /= 32


def enlarge_stage_channels(network: TinyViT) -> None:
    """Give a few channels of the residual stream before a downsampling large values."""
    fc2 = network.get_submodule("stages.1.blocks")[-1].mlp.fc2
    fc2.weight[::16] *= 200
    network.get_submodule(DOWNSAMPLING).weight[:, ::16] /= 200


def enlarge_residual_channel(network: TinyViT) -> None:
    """Give a channel of the residual stream a large constant where a convolution computes it."""
    network.get_submodule("stages.1.downsample.conv3").bias[17] += 200


CASES = {
    enlarge_mlp_channels: {f"{MLP}.fc1_output", f"{MLP}.fc2_input"},
    enlarge_mbconv_channels: {f"{MBCONV}.conv1_output", f"{MBCONV}.conv2_input"},
    enlarge_stage_channels: {f"{DOWNSAMPLING}_input"},
    enlarge_residual_channel: {
        "stages.1.downsample.conv3_output",
        f"{DOWNSAMPLING}_input",
    },
}
"""Function that makes a network hard to quantize -> the tensors that are rescaled."""


def compute_logits(network: TinyViT, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(images)


@pytest.mark.parametrize("change", CASES, ids=lambda change: change.__name__)
def test_many_outliers_are_rescaled(
    folded_network: TinyViT, noise_images: Tensor, change: object
) -> None:
    assert callable(change)
    network = copy.deepcopy(folded_network)
    with torch.no_grad():
        change(network)
    equalization = find_equalization(network, noise_images)
    assert {*equalization.scales} == CASES[change]  # type: ignore[index]
    assert not equalization.outliers
    images = noise_images[:8]
    reference = compute_logits(network, images)
    equalized = equalize_network(network, equalization)
    assert torch.allclose(compute_logits(equalized, images), reference, atol=1e-4)
    errors = []
    for candidate in (network, equalized):
        recipe = Recipe("abc", 64, calibrate(candidate, noise_images), 8, (), "", "", 24)
        scheme = QuantScheme(activations="uint8", quantized_outputs="convolutions", attention=False)
        quantized = quantize_network(candidate, recipe, scheme)
        errors.append(float((compute_logits(quantized, images) - reference).square().mean()))
    assert errors[1] < errors[0] / 2


def test_a_network_without_outliers_has_no_factors(
    folded_network: TinyViT, noise_images: Tensor
) -> None:
    assert find_channel_scales(folded_network, noise_images) == {}
    network = copy.deepcopy(folded_network)
    with torch.no_grad():
        enlarge_mlp_channels(network)
    assert find_equalization(network, noise_images, multiplies=False).scales == {}


def make_sample(outlier_factor: float) -> TensorSample:
    """Gaussian values of 64 channels, of which four are larger by a factor."""
    rows = torch.randn(512, 64, generator=torch.Generator().manual_seed(0))
    rows[:, :4] *= outlier_factor
    return TensorSample(rows, rows.abs().amax(0))


def test_the_predicted_error_is_that_of_a_quantized_layer() -> None:
    sample = make_sample(20.0)
    layer = nn.Linear(64, 128, bias=False)
    nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(1))
    step = float(sample.magnitude.max()) / 127
    quantized = QuantizedLayer(layer, ActivationQuantizer(step, "int8"), 7, QuantScheme())
    with torch.inference_mode():
        difference = quantized(sample.rows) - layer(sample.rows)
    measured = float(difference.square().sum(1).mean())
    predicted = predict_error(sample, layer.weight.detach(), torch.ones(64))
    assert predicted == pytest.approx(measured, rel=0.2)


def test_factors_move_outliers_into_small_weights() -> None:
    sample = make_sample(32.0)
    weight = torch.randn(128, 64, generator=torch.Generator().manual_seed(1))
    weight[:, :4] /= 32
    exponents = torch.tensor(choose_input_exponents(sample, weight))
    assert (exponents[:4] <= -4).all()
    assert (exponents[4:].abs() <= 1).all()


def test_rows_have_weights() -> None:
    """A row of weight 3 counts as three rows."""
    sample = make_sample(20.0)
    weights = torch.ones(len(sample.rows))
    weights[:100] = 3
    repeated = torch.cat([sample.rows[:100]] * 2 + [sample.rows])
    weight = torch.randn(128, 64, generator=torch.Generator().manual_seed(1))
    weighted = TensorSample(sample.rows, sample.magnitude, weights)
    expected = predict_error(TensorSample(repeated, sample.magnitude), weight, torch.ones(64))
    assert predict_error(weighted, weight, torch.ones(64)) == pytest.approx(expected, rel=1e-5)


def test_the_largest_position_of_each_image_is_in_the_sample() -> None:
    """Massive tokens are rare, so evenly spaced positions miss them."""
    values = torch.zeros(2, 999, 4)
    values[0, 501, 2] = -7
    rows, weights = sample_rows(values)
    assert rows.tolist().count([0, 0, -7, 0]) == 1
    assert float(weights.sum()) == pytest.approx(2 * 999, rel=0.05)


def test_no_factors_are_chosen_without_a_large_gain() -> None:
    weight = torch.randn(128, 64, generator=torch.Generator().manual_seed(1))
    assert choose_input_exponents(make_sample(3.0), weight) == ()
    # Weights that are as large as the activations lose what the activations gain.
    weight[:, 4:] /= 1000
    assert choose_input_exponents(make_sample(32.0), weight) == ()


def test_channels_that_are_always_zero_keep_their_values() -> None:
    sample = make_sample(32.0)
    sample.rows[:, 60:] = 0
    sample.magnitude[60:] = 0
    weight = torch.randn(128, 64, generator=torch.Generator().manual_seed(1))
    weight[:, :4] /= 32
    assert choose_input_exponents(sample, weight)[60:] == (0, 0, 0, 0)
    outputs = choose_output_exponents(sample.magnitude, torch.ones(64))
    assert outputs[60:] == (0, 0, 0, 0)
    assert min(outputs[:4]) >= 4


def test_outputs_are_rescaled_only_if_the_next_layer_uses_the_small_channels() -> None:
    ranges = torch.ones(64)
    ranges[0] = 64
    assert choose_output_exponents(ranges, torch.ones(64)) == (6, *[0] * 63)
    only_the_largest = torch.zeros(64)
    only_the_largest[0] = 1
    assert choose_output_exponents(ranges, only_the_largest) == ()
