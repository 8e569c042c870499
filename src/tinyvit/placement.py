"""What is quantized, and where: the decision as data. docs/int8.md has the figures behind every line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FLOAT_LAYERS = ("patch_embed.conv1", "downsample.conv2", "local_conv", "head.fc")
"""How the names end of layers that are never quantized: the first (three channels: nothing to win), the depthwise convolutions after
the first stage (1% of the work and 40% of int8's square error), the classifier (0.3% of the work, all of the answer).
LayerNorm, GELU, softmax and residual sums are computed in float32 everywhere; what follows them quantizes their result."""


@dataclass(frozen=True)
class Placement:
    """How one engine wants the recipe written. The scales are the recipe's in all of them.

    activations: the type that carries them. "uint8" has its zero point at 128 and stands for the same numbers as "int8".
    conv_outputs: round what convolutions give, too: for engines whose int8 convolution has an int8 result only.
    attention: quantize both products of attention.
    """

    activations: Literal["int8", "uint8"] = "int8"
    conv_outputs: bool = False
    attention: bool = True
