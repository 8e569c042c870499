"""A recipe and a scheme determine which tensors are quantized, and in which form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn

from tinyvit.nn.model import TinyViT
from tinyvit.quant.quantized_layers import ActivationQuantizer, QuantizedLayer
from tinyvit.quant.quantized_network import (
    attention_modules,
    quantizable_layers,
    quantize_network,
    quantized_units,
    with_exact_arithmetic,
)
from tinyvit.quant.recipe import Recipe
from tinyvit.quant_scheme import FLOAT_LAYERS, QuantScheme

INPUTS_CONVOLUTIONS_ATTENTION = QuantScheme("int8", quantized_outputs="convolutions")
"""Quantizes the inputs of layers, the outputs of convolutions, and attention's products."""


def compute_logits(network: TinyViT, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(images.to(network.head.fc.weight.dtype)).double()


def largest_difference(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max())


def test_int8_and_uint8_stand_for_the_same_numbers(
    folded_network: TinyViT, recipe: Recipe, noise_images: Tensor
) -> None:
    signed, unsigned = (
        quantize_network(
            folded_network, recipe, replace(INPUTS_CONVOLUTIONS_ATTENTION, activations=activations)
        )
        for activations in ("int8", "uint8")
    )
    images = noise_images[:2]
    assert torch.equal(compute_logits(signed, images), compute_logits(unsigned, images))


def test_exact_arithmetic_computes_the_same_network(
    folded_network: TinyViT, recipe: Recipe, noise_images: Tensor
) -> None:
    quantized = quantize_network(folded_network, recipe, INPUTS_CONVOLUTIONS_ATTENTION)
    exact = with_exact_arithmetic(quantized)
    float_logits = compute_logits(folded_network, noise_images)
    logits = compute_logits(quantized, noise_images)
    largest = float(float_logits.abs().max())
    assert largest_difference(compute_logits(exact, noise_images), logits) < 0.1 * largest
    assert exact.head.fc.weight.dtype == torch.float64
    assert quantized.head.fc.weight.dtype == torch.float32
    assert 0 < largest_difference(logits, float_logits) < 0.5 * largest


def test_all_layers_but_the_float_layers_are_quantized(
    folded_network: TinyViT, recipe: Recipe
) -> None:
    network = quantize_network(folded_network, recipe, INPUTS_CONVOLUTIONS_ATTENTION)
    modules = dict(network.named_modules())
    quantized = [name for name, module in modules.items() if isinstance(module, QuantizedLayer)]
    assert len(quantized) == len(dict(quantizable_layers(folded_network)))
    float_layers = [
        name for name, module in modules.items() if isinstance(module, (nn.Linear, nn.Conv2d))
    ]
    assert all(name.endswith(FLOAT_LAYERS) for name in float_layers)
    first_and_classifier, depthwise_downsampling, depthwise_blocks = 2, 3, 10
    assert len(float_layers) == first_and_classifier + depthwise_downsampling + depthwise_blocks
    quantizers = sum(isinstance(module, ActivationQuantizer) for module in modules.values())
    convolutions = sum(
        isinstance(layer, nn.Conv2d) for _, layer in quantizable_layers(folded_network)
    )
    attentions = len(dict(attention_modules(folded_network)))
    assert quantizers == len(quantized) + convolutions + 4 * attentions


def test_float_units_are_not_changed(folded_network: TinyViT, recipe: Recipe) -> None:
    layer, attention = "stages.1.blocks.0.mlp.fc1", "stages.2.blocks.1.attn"
    scheme = INPUTS_CONVOLUTIONS_ATTENTION
    reduced_recipe = recipe.with_more_float_units((layer, attention))
    network = quantize_network(folded_network, reduced_recipe, scheme)
    float_weight = folded_network.get_submodule(layer).weight
    assert torch.equal(network.get_submodule(layer).weight, float_weight)
    softmax = network.get_submodule(f"{attention}.softmax")
    assert not any(isinstance(module, ActivationQuantizer) for module in softmax.modules())
    all_units = set(quantized_units(folded_network, recipe, scheme))
    remaining_units = set(quantized_units(folded_network, reduced_recipe, scheme))
    assert all_units - remaining_units == {layer, attention}


@pytest.mark.parametrize(("bits", "largest"), [(7, 63), (8, 127)])
def test_weights_use_their_whole_range(
    folded_network: TinyViT, recipe: Recipe, bits: int, largest: int
) -> None:
    network = quantize_network(
        folded_network, replace(recipe, weight_bits=bits), INPUTS_CONVOLUTIONS_ATTENTION
    )
    for module in network.modules():
        if isinstance(module, QuantizedLayer):
            assert module.weight.flatten(1).abs().amax(1).eq(largest).all()


def test_outputs_of_all_layers_can_be_rounded(
    folded_network: TinyViT, recipe: Recipe, noise_images: Tensor
) -> None:
    network = quantize_network(folded_network, recipe, QuantScheme(quantized_outputs="all"))
    for name, _ in quantizable_layers(folded_network):
        # Keys and values are rounded once, to the 7 bits that attention needs.
        layer, quantizer = network.get_submodule(name)
        assert isinstance(layer, QuantizedLayer)
        assert quantizer.scale == recipe.scales[f"{name}:out"]
        assert quantizer.seven_bits == name.endswith((".k", ".v"))
    float_logits = compute_logits(folded_network, noise_images)
    difference = largest_difference(compute_logits(network, noise_images), float_logits)
    assert difference < 0.5 * float(float_logits.abs().max())


def test_weights_that_the_graph_rounds_are_the_same_numbers(
    folded_network: TinyViT, recipe: Recipe, noise_images: Tensor
) -> None:
    integers, rounded = (
        quantize_network(folded_network, recipe, QuantScheme(weights=weights))
        for weights in ("int8", "rounded_float32")
    )
    images = noise_images[:2]
    assert torch.equal(compute_logits(integers, images), compute_logits(rounded, images))
    program = torch.export.export(rounded, (noise_images[:1],))
    operators = {str(node.target) for node in program.graph.nodes}
    assert any("quantize_per_channel" in name and "dequantize" not in name for name in operators)


@pytest.mark.parametrize(("biases", "dtype"), [("float32", torch.float32), ("int32", torch.int32)])
def test_biases_have_the_type_of_the_scheme(
    folded_network: TinyViT,
    recipe: Recipe,
    biases: Literal["int32", "float32"],
    dtype: torch.dtype,
) -> None:
    name = "stages.1.blocks.0.mlp.fc1"
    network = quantize_network(folded_network, recipe, QuantScheme(biases=biases))
    layer = network.get_submodule(name)
    float_bias = folded_network.get_submodule(name).bias
    assert layer.bias.dtype == dtype
    if biases == "float32":
        assert torch.equal(layer.bias, float_bias)


def test_keys_and_values_have_seven_bits(
    folded_network: TinyViT, recipe: Recipe, noise_images: Tensor
) -> None:
    """Keys and values stay within -63 to 63 steps, even if the inputs are large."""
    network = quantize_network(folded_network, recipe, INPUTS_CONVOLUTIONS_ATTENTION)
    largest_integers: dict[str, float] = {}

    def record_largest(name: str, scale: float) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            largest_integers[name] = (output / scale).abs().max().item()

        return hook

    for name, _ in attention_modules(folded_network):
        for part in ("qkv.q", "qkv.k", "qkv.v"):
            quantizer = network.get_submodule(f"{name}.{part}")[1]
            quantizer.register_forward_hook(record_largest(f"{name}.{part}", quantizer.scale))
    compute_logits(network, 100 * noise_images[:2])
    queries = {name: value for name, value in largest_integers.items() if name.endswith("q")}
    others = {name: value for name, value in largest_integers.items() if name not in queries}
    assert max(others.values()) == pytest.approx(63)
    assert max(queries.values()) > 64


def test_a_missing_scale_is_an_error(folded_network: TinyViT, recipe: Recipe) -> None:
    scales = dict(recipe.scales)
    del scales["stages.0.blocks.0.conv1:in"]
    with pytest.raises(KeyError, match="conv1:in"):
        quantize_network(
            folded_network, replace(recipe, scales=scales), INPUTS_CONVOLUTIONS_ATTENTION
        )
