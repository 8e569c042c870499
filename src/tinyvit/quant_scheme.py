"""The quantization scheme: which tensors one engine quantizes, and the form that its graph needs.

A recipe (`tinyvit.quant.recipe`) has the scales of all tensors that any engine can quantize. Each
target has a `QuantScheme`, which selects from them. docs/int8.md contains the measurements behind
these decisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FLOAT_LAYERS = ("patch_embed.conv1", "downsample.conv2", "local_conv", "head.fc")
"""Endings of the names of layers that are never quantized.

- "patch_embed.conv1", the first convolution: with three input channels, int8 is not faster.
- "downsample.conv2" and "local_conv", the depthwise convolutions after the first stage: they do 1%
  of the work and cause 40% of the squared error of int8.
- "head.fc", the classifier: it does 0.3% of the work, and its errors change the logits directly.

LayerNorm, GELU, softmax and residual sums are always computed in float32. Their results are
quantized at the input of the next quantized layer.
"""


@dataclass(frozen=True)
class QuantScheme:
    """Which tensors one engine quantizes, and in which form. All engines use the same scales.

    Attributes:
        activations: Integer type of the activations. "uint8" with zero point 128 represents the
            same numbers as "int8" with zero point 0.
        outputs: Kinds of quantized layers whose outputs are quantized too; the inputs of all
            quantized layers always are. Engines whose int8 kernels return only int8 need this.
        attention: Whether both matrix products of attention are quantized.
        biases: "int32", where 1 means the scale of the input times that of the weight; or
            "float32".
        weights: Form of the weights in the graph. "integers": int8 constants, which the graph
            dequantizes. "rounded": float32 constants, which the graph quantizes to the same
            integers and dequantizes.
    """

    activations: Literal["int8", "uint8"] = "int8"
    outputs: Literal["none", "convolutions", "layers"] = "none"
    attention: bool = True
    biases: Literal["int32", "float32"] = "int32"
    weights: Literal["integers", "rounded"] = "integers"

    def quantizes_output(self, convolution: bool) -> bool:
        """Return whether the output of a quantized layer is quantized too.

        Args:
            convolution: True for a convolution, False for a linear layer.
        """
        return self.outputs == "layers" or (convolution and self.outputs == "convolutions")
