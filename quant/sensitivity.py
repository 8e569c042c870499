"""Measures the sensitivity of each unit of the network: how much it adds to the error of int8.

A unit is a part of the network that is quantized as a whole: one layer, or the two matrix products
of one attention module. If an int8 artifact misses its accuracy budget, units are returned to
float32, first those that cause the largest error per multiply-accumulate. The order does not depend
on measured times, so that the same network, recipe and images give the same order on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tinyvit.nn.model import TinyViT
from tinyvit.progress import NullProgress, Progress
from tinyvit.quant.quantized_network import (
    attention_modules,
    quantizable_layers,
    quantize_network,
    quantized_units,
)
from tinyvit.quant.recipe import Recipe
from tinyvit.quant_scheme import QuantScheme
from tinyvit.variants import HEAD_DIM

BATCH_SIZE = 16
"""Number of images that pass through the network together."""


@dataclass(frozen=True)
class UnitSensitivity:
    """The sensitivity of one unit.

    Attributes:
        unit: Name of the layer or of the attention module.
        error: The error that the unit causes: the mean square error of the logits with all units in
            int8, minus the mean square error with this unit in float32. It can be negative.
        macs: Number of multiply-accumulates of the unit for one image.
    """

    unit: str
    error: float
    macs: int


def rank_sensitivity(
    folded: TinyViT,
    recipe: Recipe,
    scheme: QuantScheme,
    images: Tensor,
    progress: Progress = NullProgress(),
) -> list[UnitSensitivity]:
    """Measure the sensitivity of every unit that the recipe quantizes.

    Args:
        folded: The folded float32 network (`tinyvit.nn.fold`).
        recipe: The recipe, which contains the scales. Its `float_units` are not measured.
        scheme: Which tensors the target's engine quantizes.
        images: Normalized images, float32 (N, 3, S, S).
        progress: Receives the number of units that have been measured.

    Returns:
        The sensitivities, the largest error per multiply-accumulate first.
    """
    reference = _compute_logits(folded, images)

    def measure_error(measured_recipe: Recipe) -> float:
        """Return the mean square error of the logits of the network that a recipe quantizes."""
        network = quantize_network(folded, measured_recipe, scheme)
        return _mean_square_error(_compute_logits(network, images), reference)

    int8_error = measure_error(recipe)
    macs = count_unit_macs(folded)
    units = quantized_units(folded, recipe, scheme)
    sensitivities = []
    for unit_count, unit in enumerate(units, start=1):
        error = int8_error - measure_error(recipe.with_more_float_units((unit,)))
        sensitivities.append(UnitSensitivity(unit, error, macs[unit]))
        progress.advance("ranking layers by sensitivity", unit_count, len(units))
    return sorted(sensitivities, key=_ranking_key)


def count_unit_macs(folded: TinyViT) -> dict[str, int]:
    """Count the multiply-accumulates of every unit that may be quantized.

    Args:
        folded: The folded float32 network.

    Returns:
        Name of the unit -> multiply-accumulates for one image. For an attention module, these are
        those of its two matrix products, without those of the layers in the module.
    """
    macs: dict[str, int] = {}

    def make_layer_hook(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def count(module: nn.Module, _: Any, output: Tensor) -> None:
            weight = module.get_parameter("weight")
            positions = output.numel() // len(weight)  # tokens, or pixels of the output
            macs[name] = positions * weight.numel()

        return count

    def make_softmax_hook(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def count(_: nn.Module, __: Any, output: Tensor) -> None:
            # Each output of the softmax takes HEAD_DIM multiply-accumulates in query x key, and as
            # many in softmax x value.
            macs[name] = 2 * output.numel() * HEAD_DIM

        return count

    handles = [
        layer.register_forward_hook(make_layer_hook(name))
        for name, layer in quantizable_layers(folded)
    ]
    handles += [
        attention.softmax.register_forward_hook(make_softmax_hook(name))
        for name, attention in attention_modules(folded)
    ]
    with torch.inference_mode():
        folded(torch.zeros(1, 3, folded.img_size, folded.img_size))
    for handle in handles:
        handle.remove()
    return macs


def _ranking_key(sensitivity: UnitSensitivity) -> tuple[float, str]:
    """Return the sort key: the largest error per multiply-accumulate first, then by name."""
    return (-sensitivity.error / sensitivity.macs, sensitivity.unit)


def _compute_logits(network: TinyViT, images: Tensor) -> Tensor:
    """Return the logits, float32 (N, classes), for images (N, 3, S, S)."""
    with torch.inference_mode():
        return torch.cat([network(batch) for batch in torch.split(images, BATCH_SIZE)])


def _mean_square_error(logits: Tensor, reference: Tensor) -> float:
    return float((logits - reference).double().square().mean())
