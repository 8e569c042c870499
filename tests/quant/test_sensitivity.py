"""The units of a network are ranked by the error that they cause in int8."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from tests.helpers.recorded_progress import RecordedProgress
from tinyvit.nn.cost import count_macs
from tinyvit.nn.model import TinyViT
from tinyvit.quant.quantized_network import attention_modules, quantizable_layers
from tinyvit.quant.recipe import Recipe
from tinyvit.quant.sensitivity import SimulatedNetwork, count_unit_macs, rank_sensitivity
from tinyvit.quant_scheme import FLOAT_LAYERS, QuantScheme


def test_units_and_float_layers_make_up_the_whole_network(folded_network: TinyViT) -> None:
    output_pixels = {
        "patch_embed": 32 * 32,
        "stages.1": 8 * 8,
        "stages.2": 4 * 4,
        "stages.3": 2 * 2,
        "head": 1,
    }
    float_macs = sum(
        module.weight.numel()
        * next(pixels for part, pixels in output_pixels.items() if name.startswith(part))
        for name, module in folded_network.named_modules()
        if name.endswith(FLOAT_LAYERS)
    )
    unit_macs = sum(count_unit_macs(folded_network).values())
    assert unit_macs + float_macs == count_macs(folded_network)


def recipe_of_equal_scales(network: TinyViT, **other_scales: float) -> Recipe:
    """A recipe whose scales are 0.05, except for those that are given."""
    units = [f"{name}:{end}" for name, _ in quantizable_layers(network) for end in ("in", "out")]
    units += [
        f"{name}.{part}:{end}"
        for name, _ in attention_modules(network)
        for part in ("qkv", "softmax")
        for end in ("in", "out")
    ]
    return Recipe("", 64, {**dict.fromkeys(units, 0.05), **other_scales}, 8, (), "", "", 0)


@pytest.mark.slow
def test_the_most_sensitive_layer_is_found(folded_network: TinyViT) -> None:
    """One layer causes the largest error, because its scale is a hundred times too large."""
    coarse, left_out = "stages.3.blocks.0.mlp.fc1", "stages.2.blocks.0.mlp.fc2"
    recipe = recipe_of_equal_scales(folded_network, **{f"{coarse}:in": 5.0})
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    progress = RecordedProgress()
    network = SimulatedNetwork(
        folded_network,
        recipe.with_more_float_units((left_out,)),
        QuantScheme(attention=False),
        images,
    )
    ranking = rank_sensitivity(network, progress)
    most_sensitive = max(ranking, key=lambda sensitivity: sensitivity.error)
    assert most_sensitive.unit == coarse
    assert most_sensitive.error > 0
    assert ranking == sorted(ranking, key=lambda entry: -entry.error / entry.macs)
    units = {sensitivity.unit for sensitivity in ranking}
    assert left_out not in units
    assert not units & set(dict(attention_modules(folded_network)))
    assert progress.steps[-1][1:] == (len(ranking), len(ranking))


def test_each_output_is_compared_with_only_its_unit_in_int8(folded_network: TinyViT) -> None:
    """The scale of a layer's input is so large that the input and the bias are rounded to 0.

    The output is 0 then, and the noise is as large as the exact output, which is 0 decibels.
    """
    empty, attention = "stages.0.blocks.0.conv1", "stages.3.blocks.1.attn"
    recipe = recipe_of_equal_scales(folded_network, **{f"{empty}:in": 1e6})
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    network = SimulatedNetwork(folded_network, recipe, QuantScheme(), images)
    outputs = network.compare_outputs()
    assert list(outputs) == network.units
    assert outputs[empty].error.snr_db == pytest.approx(0, abs=1e-9)
    assert outputs[empty].error.cosine is None
    # All units behind this one get the inputs of the float32 network.
    others = [output.error.snr_db for unit, output in outputs.items() if unit != empty]
    assert min(snr_db for snr_db in others if snr_db is not None) > 3
    assert outputs[attention].error.snr_db is not None
    assert outputs[empty].macs == count_unit_macs(folded_network)[empty]
    float32 = network.compute_logits(network.units)
    with torch.inference_mode():
        assert float32 == pytest.approx(folded_network(images).numpy(), abs=1e-6)
