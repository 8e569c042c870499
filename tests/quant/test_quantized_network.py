"""A recipe, its calibration, and the network that it makes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

pytest.importorskip("torch")

import torch

from tinyvit.errors import RequestError
from tinyvit.quant import calibration
from tinyvit.quant.calibration import calibrate
from tinyvit.quant.quantized_layers import QuantizedLayer, QuantizePoint
from tinyvit.quant.quantized_network import (
    attention_modules,
    quantizable_layers,
    quantize_network,
    quantized_units,
    with_exact_arithmetic,
)
from tinyvit.quant.recipe import read_recipe
from tinyvit.quant_scheme import FLOAT_LAYERS, QuantScheme

EVERYTHING = QuantScheme("int8", outputs="convolutions")


def logits(network, images):
    with torch.inference_mode():
        return network(images.to(network.head.fc.weight.dtype)).double()


def test_int8_and_uint8_stand_for_the_same_numbers(small, recipe, noise):
    signed, unsigned = (
        quantize_network(small, recipe, replace(EVERYTHING, activations=kind))
        for kind in ("int8", "uint8")
    )
    assert torch.equal(logits(signed, noise[:2]), logits(unsigned, noise[:2]))


def test_exact_is_the_same_network(small, recipe, noise):
    quantized = quantize_network(small, recipe, EVERYTHING)
    wanted = logits(small, noise)
    assert (
        logits(with_exact_arithmetic(quantized), noise) - logits(quantized, noise)
    ).abs().max() < 0.1 * wanted.abs().max()
    assert with_exact_arithmetic(quantized).head.fc.weight.dtype == torch.float64
    assert quantized.head.fc.weight.dtype == torch.float32
    assert 0 < (logits(quantized, noise) - wanted).abs().max() < 0.5 * wanted.abs().max()


def test_what_is_quantized(small, recipe):
    network = quantize_network(small, recipe, EVERYTHING)
    layers = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, QuantizedLayer)
    }
    assert len(layers) == len(dict(quantizable_layers(small)))
    left = [
        name
        for name, module in network.named_modules()
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))
    ]
    assert all(name.endswith(FLOAT_LAYERS) for name in left)
    assert len(left) == 2 + 3 + 10, (
        "first layer and classifier; depthwise convolutions of three downsamplings and ten blocks"
    )
    points = sum(isinstance(module, QuantizePoint) for module in network.modules())
    convolutions = sum(isinstance(layer, torch.nn.Conv2d) for _, layer in quantizable_layers(small))
    assert points == len(layers) + convolutions + 4 * len(dict(attention_modules(small)))


def test_units_left_in_float32_are_untouched(small, recipe):
    layer, attention = "stages.1.blocks.0.mlp.fc1", "stages.2.blocks.1.attn"
    without = recipe.with_float_units((layer, attention))
    network = quantize_network(small, without, EVERYTHING)
    assert torch.equal(network.get_submodule(layer).weight, small.get_submodule(layer).weight)
    assert not any(
        isinstance(module, QuantizePoint)
        for module in network.get_submodule(f"{attention}.softmax").modules()
    )
    assert set(quantized_units(small, recipe, EVERYTHING)) - set(
        quantized_units(small, without, EVERYTHING)
    ) == {layer, attention}


@pytest.mark.parametrize(("bits", "largest"), [(7, 63), (8, 127)])
def test_weights_use_their_bits_and_no_more(small, recipe, bits, largest):
    network = quantize_network(small, replace(recipe, weight_bits=bits), EVERYTHING)
    for module in network.modules():
        if isinstance(module, QuantizedLayer):
            assert module.weight.flatten(1).abs().amax(1).eq(largest).all()


def test_every_layers_output_can_be_rounded(small, recipe, noise):
    network = quantize_network(small, recipe, QuantScheme(outputs="layers"))
    for name, _ in quantizable_layers(small):
        layer, point = network.get_submodule(name)
        assert isinstance(layer, QuantizedLayer)
        assert point.scale == recipe.scales[f"{name}:out"]
        assert point.seven_bits == name.endswith((".k", ".v")), "once, and as attention wants it"
    assert (logits(network, noise) - logits(small, noise)).abs().max() < 0.5 * logits(
        small, noise
    ).abs().max()


def test_weights_that_the_graph_rounds_are_the_same_numbers(small, recipe, noise):
    integers, rounded = (
        quantize_network(small, recipe, QuantScheme(weights=kind))
        for kind in ("integers", "rounded")
    )
    assert torch.equal(logits(integers, noise[:2]), logits(rounded, noise[:2]))
    operators = {
        str(node.target) for node in torch.export.export(rounded, (noise[:1],)).graph.nodes
    }
    assert any("quantize_per_channel" in name and "dequantize" not in name for name in operators)


def test_a_float32_bias_is_the_layers_own(small, recipe):
    layer = "stages.1.blocks.0.mlp.fc1"
    network = quantize_network(small, recipe, QuantScheme(biases="float32"))
    assert torch.equal(network.get_submodule(layer).bias, small.get_submodule(layer).bias)
    assert (
        quantize_network(small, recipe, QuantScheme()).get_submodule(layer).bias.dtype
        == torch.int32
    )


def test_keys_and_values_have_seven_bits(small, recipe, noise):
    """They have the weights' part in attention's products, and stay inside whatever comes."""
    network, seen = quantize_network(small, recipe, EVERYTHING), {}

    def look(name, scale):
        return lambda _, __, result: seen.__setitem__(name, (result / scale).abs().max().item())

    for name, _ in attention_modules(small):
        for part in ("qkv.q", "qkv.k", "qkv.v"):
            point = network.get_submodule(f"{name}.{part}")[1]
            point.register_forward_hook(look(f"{name}.{part}", point.scale))
    logits(network, 100 * noise[:2])
    assert max(
        largest for name, largest in seen.items() if not name.endswith("q")
    ) == pytest.approx(63)
    assert max(largest for name, largest in seen.items() if name.endswith("q")) > 64


def test_a_point_that_the_recipe_lacks(small, recipe):
    scales = dict(recipe.scales)
    del scales["stages.0.blocks.0.conv1:in"]
    with pytest.raises(KeyError, match="conv1:in"):
        quantize_network(small, replace(recipe, scales=scales), EVERYTHING)


def test_queries_keys_and_values_share_a_scale(recipe):
    assert "stages.1.blocks.0.attn.qkv:in" in recipe.scales
    assert not any(name.endswith(("qkv.q:in", "qkv.k:in", "qkv.v:in")) for name in recipe.scales)


@pytest.mark.parametrize("stop", [1, 2])
def test_calibration_goes_on_where_it_was_stopped(small, noise, recipe, tmp_path, stop):
    state = tmp_path / "state.pt"

    class Stopped(Exception):
        pass

    def stops(done, _):
        if done == stop * calibration.BATCH:
            raise Stopped

    with pytest.raises(Stopped):
        calibrate(small, noise, state, stops)
    seen = []
    assert calibrate(small, noise, state, lambda done, _: seen.append(done)) == recipe.scales
    assert seen[0] == (stop + 1) * calibration.BATCH
    assert not state.exists()


def test_a_damaged_state_begins_anew(small, noise, recipe, tmp_path):
    state = tmp_path / "state.pt"
    state.write_bytes(b"no zip file")
    assert calibrate(small, noise, state) == recipe.scales


def test_a_recipe_comes_back_as_it_was(recipe, tmp_path):
    path = tmp_path / "recipe.json"
    recipe.with_float_units(("head",)).save(path)
    assert read_recipe(path) == recipe.with_float_units(("head",))
    assert read_recipe(path).sha256 != recipe.sha256


@pytest.mark.parametrize(
    "change",
    [
        {"format": 1},
        {"weight_bits": 5},
        {"calibration_count": "many"},
        {"scales": {"a": -1.0}},
        {"scales": {"a": float("nan")}},
        {"scales": [1]},
        {"more": 1},
    ],
)
def test_what_is_no_recipe_is_refused(recipe, tmp_path, change):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({**json.loads(recipe.to_json()), **change}))
    with pytest.raises(RequestError, match="is no recipe"):
        read_recipe(path)


@pytest.mark.parametrize("text", ["", "{}", "[]", "[" * 100_000, "\x00"])
def test_a_damaged_recipe_is_refused(tmp_path, text):
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(RequestError, match="is no recipe"):
        read_recipe(path)
