"""Which parts of the network int8 hurts most for what they cost: the order in which they go back to float32.

Nothing is timed here: the same network, recipe and images give the same order on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tinyvit.nn.model import TinyViT
from tinyvit.quant.quantized_network import (
    attention_modules,
    quantizable_layers,
    quantize_network,
    quantized_units,
)
from tinyvit.quant.recipe import Recipe
from tinyvit.quant_scheme import QuantScheme
from tinyvit.variants import HEAD_DIM

BATCH = 16

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class UnitSensitivity:
    """error: what the logits' mean square error falls by when the unit alone stays float32 (below 0: int8 does it good).

    macs: multiply-accumulates for one image that are then no longer integer.
    """

    unit: str
    error: float
    macs: int


def rank_sensitivity(
    folded: TinyViT,
    recipe: Recipe,
    placement: QuantScheme,
    images: Tensor,
    progress: Progress | None = None,
) -> list[UnitSensitivity]:
    """Every unit that the recipe quantizes, the most damage for its cost first; images float32 (N, 3, S, S), normalized."""
    wanted = _logits(folded, images)
    whole = _error(_logits(quantize_network(folded, recipe, placement), images), wanted)
    all_macs = count_unit_macs(folded)
    costs = {unit: all_macs[unit] for unit in quantized_units(folded, recipe, placement)}
    found = []
    for i, (unit, macs) in enumerate(costs.items()):
        without = _logits(quantize_network(folded, recipe.without((unit,)), placement), images)
        found.append(UnitSensitivity(unit, whole - _error(without, wanted), macs))
        if progress is not None:
            progress(i + 1, len(costs))
    return sorted(found, key=lambda damage: (-damage.error / damage.macs, damage.unit))


def count_unit_macs(folded: TinyViT) -> dict[str, int]:
    """Unit -> multiply-accumulates for one image: of every layer that may be quantized, and of each attention's two products."""
    macs: dict[str, int] = {}

    def count(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def look(module: nn.Module, _: Any, result: Tensor) -> None:
            weight = module.get_parameter("weight")
            macs[name] = result.numel() // len(weight) * weight.numel()

        return look

    handles = [
        layer.register_forward_hook(count(name)) for name, layer in quantizable_layers(folded)
    ]
    with torch.inference_mode():
        folded(torch.zeros(1, 3, folded.img_size, folded.img_size))
    for handle in handles:
        handle.remove()
    for name, attention in attention_modules(folded):
        tokens = macs[f"{name}.proj"] // attention.proj.weight.numel()
        macs[name] = 2 * tokens * attention.tokens * attention.num_heads * HEAD_DIM
    return macs


def _logits(network: TinyViT, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([network(images[i : i + BATCH]) for i in range(0, len(images), BATCH)])


def _error(logits: Tensor, wanted: Tensor) -> float:
    return float((logits - wanted).double().square().mean())
