import pytest

pytest.importorskip("torch")

import torch

from tinyvit.nn.cost import count_macs
from tinyvit.nn.fold import fold_model
from tinyvit.nn.hub import load_released
from tinyvit.quant.quantized_network import attention_modules, quantizable_layers
from tinyvit.quant.recipe import Recipe
from tinyvit.quant.sensitivity import count_unit_macs, rank_sensitivity
from tinyvit.quant_scheme import FLOAT_LAYERS, QuantScheme


@pytest.fixture(scope="module")
def small():
    return fold_model(load_released("demo").at_size(64).build())


def test_units_and_the_float_layers_are_all_there_is(small):
    macs = count_unit_macs(small)
    pixels = {
        "patch_embed": 32 * 32,
        "stages.1": 8 * 8,
        "stages.2": 4 * 4,
        "stages.3": 2 * 2,
        "head": 1,
    }
    left = {
        name: module.weight for name, module in small.named_modules() if name.endswith(FLOAT_LAYERS)
    }
    outside = sum(
        weight.numel() * next(size for part, size in pixels.items() if name.startswith(part))
        for name, weight in left.items()
    )
    assert sum(macs.values()) + outside == count_macs(small)


def recipe(small, **scales):
    units = [f"{name}:{end}" for name, _ in quantizable_layers(small) for end in ("in", "out")]
    units += [
        f"{name}.{part}:{end}"
        for name, _ in attention_modules(small)
        for part in ("qkv", "softmax")
        for end in ("in", "out")
    ]
    return Recipe("", 64, {**dict.fromkeys(units, 0.05), **scales}, 8, (), "", "", 0)


def test_a_spoilt_layer_is_found_and_one_left_out_is_not_asked(small):
    """One layer's scale is made a hundred times too coarse: no other can hurt as much; the order is by harm for cost."""
    spoilt, left_out = "stages.3.blocks.0.mlp.fc1", "stages.2.blocks.0.mlp.fc2"
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    seen = []
    found = rank_sensitivity(
        small,
        recipe(small, **{f"{spoilt}:in": 5.0}).with_float_units((left_out,)),
        QuantScheme(attention=False),
        images,
        lambda done, total: seen.append((done, total)),
    )
    worst = max(found, key=lambda damage: damage.error)
    assert worst.unit == spoilt
    assert worst.error > 0
    assert found == sorted(found, key=lambda damage: -damage.error / damage.macs)
    named = {damage.unit for damage in found}
    assert left_out not in named
    assert not named & set(dict(attention_modules(small)))
    assert seen[-1] == (len(found), len(found))
