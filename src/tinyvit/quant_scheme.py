"""What is quantized, and where: the decision as data. docs/int8.md has the figures behind every line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FLOAT_LAYERS = ("patch_embed.conv1", "downsample.conv2", "local_conv", "head.fc")
"""How the names end of layers that are never quantized: the first (three channels: nothing to win), the depthwise convolutions after
the first stage (1% of the work and 40% of int8's square error), the classifier (0.3% of the work, all of the answer).
LayerNorm, GELU, softmax and residual sums are computed in float32 everywhere; what follows them quantizes their result."""


@dataclass(frozen=True)
class QuantScheme:
    """How one engine wants the recipe written. The scales are the recipe's in all of them.

    activations: the type that carries them. "uint8" has its zero point at 128 and stands for the same numbers as "int8".
    outputs: whose results are rounded too, beside every layer's input: for engines whose int8 kernels give int8 only.
    attention: quantize both products of attention. biases: integers in units of input scale times weight scale, or as they are.
    weights: as integers, or as floats that the graph itself rounds to the same integers.
    """

    activations: Literal["int8", "uint8"] = "int8"
    outputs: Literal["none", "convolutions", "layers"] = "none"
    attention: bool = True
    biases: Literal["int32", "float32"] = "int32"
    weights: Literal["integers", "rounded"] = "integers"

    def rounds_output(self, convolution: bool) -> bool:
        """Of a convolution, or else of a linear layer."""
        return self.outputs == "layers" or (convolution and self.outputs == "convolutions")
