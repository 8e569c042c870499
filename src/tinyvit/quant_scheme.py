"""The quantization scheme: which tensors are quantized for one engine, and how they are stored.

A recipe (`tinyvit.quant.recipe`) contains the scales of all tensors that are quantized for any
engine. Each export target has a `QuantScheme`, which states which of these scales it uses.
docs/lab-notes/int8.md contains the measurements that led to these choices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FLOAT_LAYERS = ("patch_embed.conv1", "downsample.conv2", "local_conv", "head.fc")
"""Layers whose names end with one of these are never quantized.

- "patch_embed.conv1", the first convolution: with three input channels, int8 is not faster.
- "downsample.conv2" and "local_conv", the depthwise convolutions after the first stage: they do 1%
  of the work and cause 40% of the squared error of int8.
- "head.fc", the classifier: it does 0.3% of the work, and its errors change the logits directly.

LayerNorm, GELU, softmax and residual sums are always computed in float32. Their results are
quantized at the input of the next quantized layer. `QuantScheme.every_tensor` is the exception from
both rules.
"""

Activations = Literal["int8", "uint8", "uint16"]
"""Integer types of activations."""


@dataclass(frozen=True)
class QuantScheme:
    """Which tensors are quantized for one engine, and how they are stored.

    All engines use the same scales.

    Attributes:
        activations: Integer type of the activations: "int8" with zero point 0, or "uint8" with zero
            point 128, which represent the same numbers; or "uint16" with zero point 32768.
        quantized_outputs: Quantized layers whose outputs are quantized in addition to their inputs:
            "none", "convolutions", or "all" for convolutions and linear layers. Engines whose int8
            kernels return only int8 need quantized outputs.
        attention: Whether both matrix products of attention are quantized.
        biases: Type of the biases of quantized layers: "float32", or "int32" in units of the scale
            of the layer's input times the scale of its weights.
        weights: How the graph contains the weights of quantized layers. "int8": as int8 constants,
            followed by a dequantize operator. "rounded_float32": as float32 constants that are
            multiples of their scale, followed by a quantize and a dequantize operator, because the
            target's converter does not accept int8 constants. Both forms represent the same
            numbers. If activations stay float32, the weights are always int8 constants.
        every_tensor: Whether all tensors and all layers are quantized, as NPUs need it: also those
            of `FLOAT_LAYERS`, sums, and the results of LayerNorm, GELU and softmax. The fields
            `quantized_outputs` and `attention` then have no effect. With "uint8", each tensor has a
            zero point that follows from its smallest and largest value. Keys and values have 8
            bits, whatever `activations` is. No unit can return to float32.
    """

    activations: Activations = "int8"
    quantized_outputs: Literal["none", "convolutions", "all"] = "none"
    attention: bool = True
    biases: Literal["int32", "float32"] = "int32"
    weights: Literal["int8", "rounded_float32"] = "int8"
    every_tensor: bool = False

    def choose_weight_bits(self, recipe_bits: int) -> int:
        """Return the number of bits of the weights.

        Weights of 7 bits keep sums of products with 8-bit activations from saturating in kernels of
        some processors. With 16-bit activations, no engine has such kernels.

        Args:
            recipe_bits: The number of bits in the recipe.
        """
        return 8 if recipe_bits == 7 and self.activations == "uint16" else recipe_bits

    def quantizes_output(self, is_convolution: bool) -> bool:
        """Return whether the output of a quantized layer is quantized too.

        Args:
            is_convolution: True for a convolution, False for a linear layer.
        """
        quantized = self.quantized_outputs
        return quantized == "all" or (is_convolution and quantized == "convolutions")
