"""Measures the sensitivity of each unit of the network: how much it adds to the error of int8.

A unit is a part of the network that is quantized as a whole: one layer, or the two matrix products
of one attention module. The figures are those of `tinyvit.bench.sensitivity`, computed in PyTorch
with the scales of a recipe. tinyvit-export --sensitivity shows them.

The search for an int8 network within the accuracy budget uses the same figures: if an artifact
misses its budget, units are returned to float32, first those that cause the largest error per
multiply-accumulate. The order does not depend on measured times, so that the same network, recipe
and images give the same order on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tinyvit.bench.record import UnitSensitivity
from tinyvit.bench.sensitivity.measure import UnitOutput, measure_sensitivity
from tinyvit.image_sizes import height_and_width
from tinyvit.metrics import ApproximationError
from tinyvit.nn.model import TinyViT
from tinyvit.progress import NullProgress, Progress
from tinyvit.quant.images.image_counts import choose_batch_size
from tinyvit.quant.quantized_network import (
    attention_modules,
    quantizable_layers,
    quantize_network,
    quantized_units,
    without_unused_scales,
)
from tinyvit.quant.recipe import Recipe
from tinyvit.quant_scheme import QuantScheme
from tinyvit.variants import HEAD_DIM


class SimulatedNetwork:
    """A network that PyTorch quantizes with a recipe; a `measure.SwitchableNetwork`."""

    def __init__(
        self, folded: TinyViT, recipe: Recipe, scheme: QuantScheme, images: Tensor
    ) -> None:
        """Store the arguments. Nothing is computed yet.

        Args:
            folded: The folded float32 network (`tinyvit.nn.fold`).
            recipe: The recipe, which contains the scales. Its `float_units` are not measured.
            scheme: Which tensors the target's engine quantizes.
            images: Normalized images, float32 (N, 3, H, W).
        """
        # Outputs of layers are compared, so both networks must have the same factors.
        self._folded = without_unused_scales(folded, recipe, scheme)
        self._recipe = recipe
        self._scheme = scheme
        self._images = images

    @property
    def units(self) -> Sequence[str]:
        """The names of the units that are quantized."""
        return quantized_units(self._folded, self._recipe, self._scheme)

    @property
    def image_count(self) -> int:
        """The number of images."""
        return len(self._images)

    def compute_logits(self, float_units: Collection[str]) -> npt.NDArray[np.float32]:
        """Compute the logits of all images; see `measure.SwitchableNetwork.compute_logits`."""
        return self._run(self._quantize_without(float_units))

    def compare_outputs(self) -> dict[str, UnitOutput]:
        """Compare the output of every unit; see `measure.SwitchableNetwork.compare_outputs`.

        The output of an attention module is that of its last layer, which stays float32 here.
        """
        errors = {unit: ApproximationError() for unit in self.units}
        layers = [name for name, _ in quantizable_layers(self._folded)]
        attentions = [name for name, _ in attention_modules(self._folded)]
        # An attention module contains layers, so that the two kinds are not quantized together.
        networks = {
            **dict.fromkeys(layers, self._quantize_without(attentions)),
            **dict.fromkeys(attentions, self._quantize_without(layers)),
        }

        def make_hook(unit: str) -> Callable[[nn.Module, Any, Tensor], None]:
            quantized = networks[unit].get_submodule(unit)

            def compare(_: nn.Module, inputs: Any, output: Tensor) -> None:
                errors[unit].add(output.numpy(), quantized(*inputs).numpy())

            return compare

        handles = [
            self._folded.get_submodule(unit).register_forward_hook(make_hook(unit))
            for unit in errors
        ]
        self._run(self._folded)
        for handle in handles:
            handle.remove()
        macs = count_unit_macs(self._folded)
        return {unit: UnitOutput(error, macs[unit]) for unit, error in errors.items()}

    def _quantize_without(self, float_units: Collection[str]) -> TinyViT:
        """Quantize the network, except for some more units than those of the recipe."""
        recipe = self._recipe.with_more_float_units(tuple(float_units))
        return quantize_network(self._folded, recipe, self._scheme)

    def _run(self, network: TinyViT) -> npt.NDArray[np.float32]:
        """Return all output values of a network for all images, float32 (N, values)."""
        batch_size = choose_batch_size(*self._images.shape[2:])
        with torch.inference_mode():
            rows = [_flatten(network(batch)) for batch in torch.split(self._images, batch_size)]
        array: npt.NDArray[np.float32] = torch.cat(rows).numpy()
        return array


def _flatten(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Return the values of all outputs of a batch as one matrix, (B, values)."""
    tensors = outputs if isinstance(outputs, tuple) else (outputs,)
    return torch.cat([tensor.flatten(1) for tensor in tensors], dim=1)


def rank_sensitivity(
    network: SimulatedNetwork, progress: Progress = NullProgress()
) -> list[UnitSensitivity]:
    """Measure the sensitivity of every unit, and order the units for the accuracy budget.

    Args:
        network: The network and the images.
        progress: Receives the number of units that have been measured.

    Returns:
        The sensitivities, the largest error per multiply-accumulate first.
    """
    return sorted(measure_sensitivity(network, progress).units, key=_ranking_key)


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
        folded(torch.zeros(1, 3, *height_and_width(folded.img_size)))
    for handle in handles:
        handle.remove()
    return macs


def _ranking_key(sensitivity: UnitSensitivity) -> tuple[float, str]:
    """Return the sort key: the largest error per multiply-accumulate first, then by name."""
    return (-sensitivity.error / sensitivity.macs, sensitivity.unit)
