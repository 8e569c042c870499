"""Prepares quantization-aware training (QAT): the network simulates int8 while it trains.

`add_fake_quantization` takes a folded network (BatchNorms and the scale and shift of LayerNorms are
merged into other layers) and a recipe (the scales of the quantized activations, from calibration).
The network that it returns rounds weights and activations in the forward pass, and gradients ignore
the rounding (Jacob et al., 2018). The scales of activations stay constant. The scales of weights
are computed from the weights in every step, in the same way as in an export. After training,
`make_checkpoint_state` returns the weights in the form of an ordinary checkpoint, which is exported
with the same recipe.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinyvit.nn.fold import unfold_model
from tinyvit.nn.model import TinyViT
from tinyvit.quant.quantized_layers import SEVEN_BIT_LIMIT, Layer, compute_weight_scales
from tinyvit.quant.quantized_network import replace_layers, replace_module
from tinyvit.quant.recipe import Recipe
from tinyvit.quant_scheme import QuantScheme

TRAINING_SCHEME = QuantScheme(quantized_outputs="all", attention=True)
"""The tensors that training quantizes: all that any export target quantizes. So the trained network
is suitable for every target, including those that quantize fewer tensors."""
_INT8_RANGE = (-128, 127)
_SEVEN_BIT_RANGE = (-SEVEN_BIT_LIMIT, SEVEN_BIT_LIMIT)


class FakeQuantize(nn.Module):
    """Rounds activations to multiples of a scale, and clamps them to the range of int8.

    The gradient is 1 for values within the range, and 0 outside.
    """

    def __init__(self, scale: float, seven_bits: bool = False) -> None:
        """Set the scale and the range.

        Args:
            scale: Difference between two adjacent quantized values.
            seven_bits: Whether the range is -63 to 63 times the scale, instead of -128 to 127 times
                the scale. `replace_layers` requests this for the keys and values of attention.
        """
        super().__init__()
        self.scale = scale
        self.range = _SEVEN_BIT_RANGE if seven_bits else _INT8_RANGE

    def forward(self, x: Tensor) -> Tensor:
        """Round and clamp activations.

        Args:
            x: A tensor of any shape.

        Returns:
            The rounded tensor, float32, of the same shape.
        """
        smallest, largest = self.range
        return torch.fake_quantize_per_tensor_affine(
            x.float(), self.scale, zero_point=0, quant_min=smallest, quant_max=largest
        )


class FakeQuantizedLayer(nn.Module):
    """A layer that computes with rounded weights and, optionally, a rounded input.

    Training changes the float32 weights, which are rounded again in every forward pass.
    """

    def __init__(
        self, layer: Layer, input_quantizer: FakeQuantize | None, weight_bits: int
    ) -> None:
        """Wrap a layer.

        Args:
            layer: The layer.
            input_quantizer: The module that rounds the input; None leaves the input in float32.
            weight_bits: Number of bits of the rounded weights.
        """
        super().__init__()
        self.layer, self.input_quantizer = layer, input_quantizer
        self.max_level = 2 ** (weight_bits - 1) - 1

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output of the layer.

        Args:
            x: The input of the layer.

        Returns:
            The output of the layer.
        """
        layer = self.layer
        scales = compute_weight_scales(layer.weight.detach(), self.max_level)
        rounded_weight = torch.fake_quantize_per_channel_affine(
            layer.weight,
            scales,
            zero_point=torch.zeros_like(scales, dtype=torch.int32),
            axis=0,
            quant_min=-self.max_level,
            quant_max=self.max_level,
        )
        if self.input_quantizer is not None:
            x = self.input_quantizer(x)
        if isinstance(layer, nn.Linear):
            return F.linear(x, rounded_weight, layer.bias)
        # The convolutions of TinyViT have the same stride and padding in both directions.
        stride, padding = layer.stride[0], int(layer.padding[0])
        return F.conv2d(x, rounded_weight, layer.bias, stride, padding, groups=layer.groups)


def add_fake_quantization(
    folded: TinyViT, recipe: Recipe, scheme: QuantScheme = TRAINING_SCHEME
) -> TinyViT:
    """Return a trainable copy of a network that simulates int8 quantization.

    Args:
        folded: The folded float32 network (`tinyvit.nn.fold`).
        recipe: The scales of activations, the number of bits of the weights, and the layers that
            stay float32.
        scheme: The scheme that states which tensors are quantized.
    """

    def make_layer(layer: Layer, input_quantizer: FakeQuantize | None) -> FakeQuantizedLayer:
        return FakeQuantizedLayer(layer, input_quantizer, recipe.weight_bits)

    return replace_layers(folded, recipe, scheme, FakeQuantize, make_layer).requires_grad_()


def make_checkpoint_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a network with fake quantization, in the form of a checkpoint.

    Args:
        network: A network from `add_fake_quantization`.

    Returns:
        A state dict with the parameter names of timm, like that of any trained network.
        `unfold_model` inserts BatchNorms again where folding merged them into the layers; these
        only add the bias of the layer.
    """
    float_network = copy.deepcopy(network).cpu()
    assert isinstance(float_network, TinyViT)
    for name, module in list(float_network.named_modules()):
        # `replace_layers` put Sequential(module, quantizer) in the place of a module whose output
        # is rounded.
        is_pair = isinstance(module, nn.Sequential) and len(module) == 2
        if is_pair and isinstance(module[1], FakeQuantize):
            replace_module(float_network, name, module[0])
    for name, module in list(float_network.named_modules()):
        if isinstance(module, FakeQuantizedLayer):
            replace_module(float_network, name, module.layer)
    return unfold_model(float_network).state_dict()
