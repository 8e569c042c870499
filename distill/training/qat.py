"""Training with int8 in the graph: the folded network rounds as the recipe says, gradients pass as if it did not (Jacob et al., 2018).

In: a checkpoint and its recipe. Out: a network to train, and from it the checkpoint again, whose export with the same recipe has the
weights that were trained for it. Scales of activations stay the recipe's; those of the weights follow the weights, as in export.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinyvit.nn.checkpoint import Checkpoint
from tinyvit.nn.fold import fold_model, unfold_model
from tinyvit.nn.model import TinyViT
from tinyvit.quant.calibration import METHOD, calibrate
from tinyvit.quant.calibration_data import read_calibration_set
from tinyvit.quant.quantized_layers import SEVEN_BIT_LIMIT, Layer, weight_scales
from tinyvit.quant.quantized_network import replace_layers, replace_module
from tinyvit.quant.recipe import Recipe
from tinyvit.quant_scheme import QuantScheme

EVERYWHERE = QuantScheme(outputs="layers", attention=True)
"""Every place where any target rounds: what is trained for it loses nothing where less is rounded."""
CALIBRATION = 256


class FakeQuantize(nn.Module):
    """Rounds activations to `scale`, -128 to 127 of it, or -63 to 63; the gradient is 1 within and 0 beyond."""

    def __init__(self, scale: float, seven_bits: bool = False) -> None:
        super().__init__()
        self.scale, self.range = (
            scale,
            (-SEVEN_BIT_LIMIT, SEVEN_BIT_LIMIT) if seven_bits else (-128, 127),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same, float32."""
        return torch.fake_quantize_per_tensor_affine(x.float(), self.scale, 0, *self.range)


class FakeQuantizedLayer(nn.Module):
    """A layer whose input (where there is a source) and weights are rounded on the way; its own weights stay float32 and learn."""

    def __init__(self, layer: Layer, source: FakeQuantize | None, weight_bits: int) -> None:
        super().__init__()
        self.layer, self.source, self.largest = layer, source, 2 ** (weight_bits - 1) - 1

    def forward(self, x: Tensor) -> Tensor:
        """As the layer's."""
        weight = self.layer.weight
        scales = weight_scales(weight.detach(), self.largest)
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        weight = torch.fake_quantize_per_channel_affine(
            weight, scales, zeros, 0, -self.largest, self.largest
        )
        x = x if self.source is None else self.source(x)
        if isinstance(self.layer, nn.Linear):
            return F.linear(x, weight, self.layer.bias)
        stride, padding, groups = (
            self.layer.stride[0],
            int(self.layer.padding[0]),
            self.layer.groups,
        )
        return F.conv2d(x, weight, self.layer.bias, stride, padding, groups=groups)


def add_fake_quantization(
    folded: TinyViT, recipe: Recipe, placement: QuantScheme = EVERYWHERE
) -> TinyViT:
    """A copy of a folded network that computes what `quantize` with the same recipe and placement does, and can be trained."""

    def make_layer(layer: Layer, source: FakeQuantize | None) -> FakeQuantizedLayer:
        return FakeQuantizedLayer(layer, source, recipe.weight_bits)

    return replace_layers(folded, recipe, placement, FakeQuantize, make_layer).requires_grad_()


def checkpoint_state(network: nn.Module) -> dict[str, Tensor]:
    """The weights of a network of `add_fake_quantization`, as a checkpoint has them."""
    plain = copy.deepcopy(network).cpu()
    assert isinstance(plain, TinyViT)
    for name, module in list(plain.named_modules()):
        if (
            isinstance(module, nn.Sequential)
            and len(module) == 2
            and isinstance(module[1], FakeQuantize)
        ):
            replace_module(plain, name, module[0])
    for name, module in list(plain.named_modules()):
        if isinstance(module, FakeQuantizedLayer):
            replace_module(plain, name, module.layer)
    return unfold_model(plain).state_dict()


def calibrated(source: Checkpoint, data: Path, weight_bits: int) -> Recipe:
    """The recipe that export would make of CALIBRATION of these pictures, for weights of so many bits."""
    images = read_calibration_set(data, source.preprocess, CALIBRATION)
    scales = calibrate(
        fold_model(source.build()), torch.from_numpy(source.preprocess.normalize(images.pixels))
    )
    return Recipe(
        source.sha256,
        source.img_size,
        scales,
        weight_bits,
        (),
        METHOD,
        images.sha256,
        len(images.pixels),
    )
