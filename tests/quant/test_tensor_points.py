"""Quantizing every tensor of a network, as NPUs need it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchao")

import torch

from tinyvit.errors import RequestError
from tinyvit.nn.model import TinyViT
from tinyvit.quant.calibration import (
    CalibrationOptions,
    calibrate,
    measure_tensors,
    require_points,
)
from tinyvit.quant.quantized_layers import ActivationQuantizer
from tinyvit.quant.quantized_network import quantize_network, with_exact_arithmetic
from tinyvit.quant.recipe import Recipe, read_recipe
from tinyvit.quant.tensor_points import find_every_tensor
from tinyvit.quant_scheme import QuantScheme

EVERY_TENSOR_16 = QuantScheme(activations="uint16", every_tensor=True)
EVERY_TENSOR_8 = QuantScheme(activations="uint8", every_tensor=True)


@pytest.fixture(scope="module")
def full_recipe(folded_network: TinyViT, noise_images: torch.Tensor, recipe: Recipe) -> Recipe:
    """A recipe with the scales and ranges of every tensor."""
    measured = measure_tensors(
        folded_network, noise_images[:8], options=CalibrationOptions(every_tensor=True)
    )
    return replace(recipe, scales=measured.scales, ranges=measured.ranges)


def test_every_tensor_has_a_point(folded_network: TinyViT) -> None:
    points = find_every_tensor(folded_network)
    expected = {
        "patch_embed.conv1:in",  # the image
        "stages.0.blocks.0.residual_sum:out",
        "stages.0.blocks.0.output:out",
        "stages.1.downsample.conv2:out",
        "stages.1.blocks.0.attn.norm:out",
        "stages.1.blocks.0.attn.qkv:in",
        "stages.1.blocks.0.attn.expanded_biases:out",
        "stages.1.blocks.0.attn.scores:out",
        "stages.1.blocks.0.attn.softmax:in",
        "stages.1.blocks.0.attn.weighted_sums:out",
        "stages.1.blocks.0.attention_sum:out",
        "stages.1.blocks.0.local_conv:out",
        "stages.1.blocks.0.mlp_sum:out",
        "head.norm:in",
        "head.fc:out",
    }
    assert expected <= points.keys()
    # Only a network with separated outliers computes these sums.
    assert not [point for point in points if "outlier_sum" in point]


def test_the_scales_of_other_targets_do_not_change(
    folded_network: TinyViT, noise_images: torch.Tensor, full_recipe: Recipe
) -> None:
    for point, scale in calibrate(folded_network, noise_images[:8]).items():
        assert full_recipe.scales[point] == scale


def test_ranges_are_the_smallest_and_largest_values(
    noise_images: torch.Tensor, full_recipe: Recipe
) -> None:
    images = noise_images[:8]
    limits = [float(images.min()), float(images.max())]
    assert full_recipe.ranges["patch_embed.conv1:in"] == pytest.approx(limits, rel=1e-6)
    # The smallest value of GELU is -0.17, and a softmax has no negative ones.
    smallest = {point: limits[0] for point, limits in full_recipe.ranges.items()}
    assert -0.1701 < smallest["stages.1.blocks.0.mlp.fc2:in"] < -0.16
    assert smallest["stages.1.blocks.0.attn.softmax:out"] == 0


def test_8_bit_integers_cover_the_range(folded_network: TinyViT, full_recipe: Recipe) -> None:
    point = "head.norm:in"
    for limits, scale, expected in (
        ((-0.2, 5.0), 1.0, (5.2 / 255, round(0.2 * 255 / 5.2))),
        ((0.0, 5.0), 1.0, (5 / 255, 0)),
        ((-9.0, 9.0), 0.01, (0.01, 128)),  # what the scale does not represent is an outlier
        ((-9.0, 0.5), 0.01, (1.78 / 255, round(1.28 * 255 / 1.78))),
    ):
        recipe = replace(
            full_recipe,
            ranges={**full_recipe.ranges, point: limits},
            scales={**full_recipe.scales, point: scale},
        )
        network = quantize_network(folded_network, recipe, EVERY_TENSOR_8)
        quantizer = network.get_submodule("head.norm.0")
        assert isinstance(quantizer, ActivationQuantizer)
        assert quantizer.scale == pytest.approx(expected[0])
        assert quantizer.integer_type.zero_point == expected[1]
        values = torch.tensor([-10.0, 0.0, 10.0])
        step, zero_point = expected
        ends = [-zero_point * step, 0.0, (255 - zero_point) * step]
        assert quantizer(values).tolist() == pytest.approx(ends, rel=1e-6)
        assert quantizer(values.double()).tolist() == pytest.approx(ends)


def test_16_bit_integers_cover_twice_the_range(
    folded_network: TinyViT, full_recipe: Recipe
) -> None:
    recipe = replace(full_recipe, ranges={**full_recipe.ranges, "head.norm:in": (-3.2767, 1.0)})
    network = quantize_network(folded_network, recipe, EVERY_TENSOR_16)
    quantizer = network.get_submodule("head.norm.0")
    assert isinstance(quantizer, ActivationQuantizer)
    assert quantizer.scale == pytest.approx(2e-4)
    exact = quantizer(torch.tensor([1e-4 * 1.9, -1.0, 100.0], dtype=torch.float64))
    assert exact.tolist() == pytest.approx([2e-4, -1.0, 6.5534])
    assert quantizer(torch.tensor([1e-4 * 1.9, -1.0, 100.0])).tolist() == pytest.approx(
        [2e-4, -1.0, 6.5534]
    )


def test_keys_and_values_have_8_bits(folded_network: TinyViT, full_recipe: Recipe) -> None:
    name = "stages.1.blocks.0.attn.qkv.k"
    modules = list(
        quantize_network(folded_network, full_recipe, EVERY_TENSOR_16).get_submodule(name)
    )
    assert [module.activations for module in modules[1:]] == ["uint16", "uint8"]
    assert modules[2].scale == full_recipe.scales[f"{name}:out"] / 2
    modules = list(
        quantize_network(folded_network, full_recipe, EVERY_TENSOR_8).get_submodule(name)
    )
    assert [module.activations for module in modules[1:]] == ["uint8"]


def test_16_bits_are_closer_to_float32_than_8(
    folded_network: TinyViT, noise_images: torch.Tensor, full_recipe: Recipe
) -> None:
    images = noise_images[:2]
    with torch.inference_mode():
        expected = folded_network(images).double()
        differences = [
            (
                with_exact_arithmetic(quantize_network(folded_network, full_recipe, scheme))(
                    images.double()
                )
                - expected
            )
            .abs()
            .max()
            .item()
            for scheme in (EVERY_TENSOR_16, EVERY_TENSOR_8)
        ]
    assert differences[0] < 0.2 < differences[1] * 2


def test_ranges_are_stored_only_if_there_are_any(
    tmp_path: Path, recipe: Recipe, full_recipe: Recipe
) -> None:
    assert "ranges" not in json.loads(recipe.to_json())
    full_recipe.save(tmp_path / "recipe.json")
    assert read_recipe(tmp_path / "recipe.json") == full_recipe


def test_a_recipe_for_other_targets_is_refused(folded_network: TinyViT, recipe: Recipe) -> None:
    require_points(recipe, folded_network, Path("r.json"))
    with pytest.raises(RequestError, match=r"r\.json does not have the scales of every tensor"):
        require_points(recipe, folded_network, Path("r.json"), every_tensor=True)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ((-1.0, 0.0), "the end of a range is not between 1e-30 and"),
        ((0.0, 1e31), "the end of a range is not between 1e-30 and"),
        ((0.5, 1.0), "the start of a range is not between"),
        ((-1e31, 1.0), "the start of a range is not between"),
    ],
)
def test_an_impossible_range_is_refused(
    tmp_path: Path, full_recipe: Recipe, limits: tuple[float, float], message: str
) -> None:
    path = tmp_path / "recipe.json"
    replace(full_recipe, ranges={"head.fc:out": limits}).save(path)
    with pytest.raises(RequestError, match=message):
        read_recipe(path)


def test_weights_have_8_bits_beside_16_bit_activations() -> None:
    assert [EVERY_TENSOR_16.choose_weight_bits(bits) for bits in (4, 7, 8)] == [4, 8, 8]
    assert [EVERY_TENSOR_8.choose_weight_bits(bits) for bits in (4, 7, 8)] == [4, 7, 8]
