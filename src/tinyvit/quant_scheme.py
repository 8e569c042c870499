"""The quantization scheme: which tensors are quantized, and where an engine needs it written.

docs/int8.md has the measurements behind these decisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FLOAT_LAYERS = ("patch_embed.conv1", "downsample.conv2", "local_conv", "head.fc")
"""Endings of the names of layers that are never quantized.

- "patch_embed.conv1", the first convolution: with three input channels, int8 is not faster.
- "downsample.conv2" and "local_conv", the depthwise convolutions after the first stage: they are 1%
  of the work and cause 40% of the squared error of int8.
- "head.fc", the classifier: it is 0.3% of the work and decides the answer.

LayerNorm, GELU, softmax and residual sums are always computed in float32. The layer after them
quantizes their result.
"""


@dataclass(frozen=True)
class QuantScheme:
    """The form in which one engine needs a recipe. Scales are the same for all engines.

    Attributes:
        activations: Integer type of the activations. "uint8" has its zero point at 128 and
            represents the same numbers as "int8".
        outputs: Layers whose results are quantized in addition to the input of every quantized
            layer. Engines need this whose int8 kernels return only int8.
        attention: Whether both matrix products of attention are quantized.
        biases: "int32" in units of the input scale times the weight scale, or "float32".
        weights: "integers", or "rounded": floats that the graph itself rounds to the same integers.
    """

    activations: Literal["int8", "uint8"] = "int8"
    outputs: Literal["none", "convolutions", "layers"] = "none"
    attention: bool = True
    biases: Literal["int32", "float32"] = "int32"
    weights: Literal["integers", "rounded"] = "integers"

    def quantizes_output(self, convolution: bool) -> bool:
        """Tell whether the result of a quantized layer is quantized too.

        Args:
            convolution: Whether the layer is a convolution; otherwise it is a linear layer.
        """
        return self.outputs == "layers" or (convolution and self.outputs == "convolutions")
