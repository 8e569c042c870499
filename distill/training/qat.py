"""Quantization-aware training: the folded network rounds as the recipe says while it trains.

Gradients pass through the rounding as if it were not there (Jacob et al., 2018). A checkpoint and
its recipe give a network to train, and that network gives a checkpoint again, whose export with the
same recipe has the weights that were trained for it. The scales of activations stay those of the
recipe; the scales of weights follow the weights, as in export.
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

TRAINING_SCHEME = QuantScheme(outputs="layers", attention=True)
"""Every place where any target rounds. A network that is trained for it loses nothing on a target
that rounds in fewer places."""
CALIBRATION_IMAGES = 256


class FakeQuantize(nn.Module):
    """Rounds activations to multiples of a scale; the gradient is 1 within the range, 0 beyond."""

    def __init__(self, scale: float, seven_bits: bool = False) -> None:
        """Set the rounding.

        Args:
            scale: The step between two values.
            seven_bits: Whether the range is -63 to 63 steps instead of -128 to 127.
        """
        super().__init__()
        self.scale = scale
        self.range = (-SEVEN_BIT_LIMIT, SEVEN_BIT_LIMIT) if seven_bits else (-128, 127)

    def forward(self, x: Tensor) -> Tensor:
        """Round activations.

        Args:
            x: A tensor of any shape.

        Returns:
            float32, of the same shape.
        """
        return torch.fake_quantize_per_tensor_affine(x.float(), self.scale, 0, *self.range)


class FakeQuantizedLayer(nn.Module):
    """A layer whose weights, and whose input where there is a point, are rounded on the way.

    The weights themselves stay float32 and are trained.
    """

    def __init__(
        self, layer: Layer, input_quantizer: FakeQuantize | None, weight_bits: int
    ) -> None:
        """Wrap a layer.

        Args:
            layer: The layer.
            input_quantizer: Rounds the input; None leaves it as it is.
            weight_bits: Width of the weights.
        """
        super().__init__()
        self.layer, self.input_quantizer = layer, input_quantizer
        self.max_level = 2 ** (weight_bits - 1) - 1

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer with rounded weights.

        Args:
            x: The input of the layer.

        Returns:
            The output of the layer.
        """
        weight = self.layer.weight
        scales = weight_scales(weight.detach(), self.max_level)
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        weight = torch.fake_quantize_per_channel_affine(
            weight, scales, zeros, 0, -self.max_level, self.max_level
        )
        x = x if self.input_quantizer is None else self.input_quantizer(x)
        layer = self.layer
        if isinstance(layer, nn.Linear):
            return F.linear(x, weight, layer.bias)
        stride, padding = layer.stride[0], int(layer.padding[0])
        return F.conv2d(x, weight, layer.bias, stride, padding, groups=layer.groups)


def add_fake_quantization(
    folded: TinyViT, recipe: Recipe, scheme: QuantScheme = TRAINING_SCHEME
) -> TinyViT:
    """Copy a folded network into one that rounds like the quantized network and can be trained.

    Args:
        folded: The folded network.
        recipe: The quantization.
        scheme: Where it rounds.
    """

    def make_layer(layer: Layer, input_quantizer: FakeQuantize | None) -> FakeQuantizedLayer:
        return FakeQuantizedLayer(layer, input_quantizer, recipe.weight_bits)

    return replace_layers(folded, recipe, scheme, FakeQuantize, make_layer).requires_grad_()


def checkpoint_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a network with fake quantization as a checkpoint has them.

    Args:
        network: What `add_fake_quantization` returned, trained.

    Returns:
        A state dict with timm's names.
    """
    plain = copy.deepcopy(network).cpu()
    assert isinstance(plain, TinyViT)
    for name, module in list(plain.named_modules()):
        is_rounded_output = isinstance(module, nn.Sequential) and len(module) == 2
        if is_rounded_output and isinstance(module[1], FakeQuantize):
            replace_module(plain, name, module[0])
    for name, module in list(plain.named_modules()):
        if isinstance(module, FakeQuantizedLayer):
            replace_module(plain, name, module.layer)
    return unfold_model(plain).state_dict()


def calibrate_recipe(checkpoint: Checkpoint, data: Path, weight_bits: int) -> Recipe:
    """Calibrate the recipe that an export with these images would use.

    Args:
        checkpoint: The checkpoint.
        data: Folder of images, of which `CALIBRATION_IMAGES` are used.
        weight_bits: Width of the weights.
    """
    images = read_calibration_set(data, checkpoint.preprocess, CALIBRATION_IMAGES)
    normalized = torch.from_numpy(checkpoint.preprocess.normalize(images.pixels))
    return Recipe(
        checkpoint_sha256=checkpoint.sha256,
        img_size=checkpoint.img_size,
        scales=calibrate(fold_model(checkpoint.build()), normalized),
        weight_bits=weight_bits,
        float_units=(),
        method=METHOD,
        calibration_sha256=images.sha256,
        calibration_count=len(images.pixels),
    )
