"""The outputs that an exported network can have: logits, an embedding, or feature maps.

`OutputRequest` is what a user requests. `tinyvit.manifest_parts.OutputSpec` describes each tensor
that the network then returns; the network itself makes these descriptions.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from dataclasses import dataclass
from typing import Literal, get_args

from tinyvit.errors import RequestError

OutputKind = Literal["logits", "embedding", "features"]
"""Kind of an output.

- "logits": one number for each class, (batch, classes).
- "embedding": one vector for each image, (batch, channels). For TinyViT, it is the input of the
  classifier: the mean of the last feature map over all positions, after the last LayerNorm
  (`forward_head(x, pre_logits=True)` in timm).
- "features": a feature map, (batch, channels, height, width).
"""

STAGES = (0, 1, 2, 3)
"""Numbers of the stages of TinyViT, as in timm's `out_indices`. Their feature maps have 1/4, 1/8,
1/16 and 1/32 of the height and width of the image."""


@dataclass(frozen=True)
class OutputRequest:
    """The output that a network is to have.

    Attributes:
        kind: What the network returns.
        stages: For "features", the stages whose feature maps are returned, in ascending order;
            empty for other kinds, and for the image embeddings of MobileSAM.
    """

    kind: OutputKind = "logits"
    stages: tuple[int, ...] = ()

    def describe(self) -> str:
        """Describe the output for a message, such as "feature maps of stages 1, 2"."""
        if self == IMAGE_EMBEDDINGS:
            return "image embeddings"
        if self.kind == "features":
            return f"feature maps of stages {', '.join(map(str, self.stages))}"
        return "embedding" if self.kind == "embedding" else "logits"

    @property
    def identity(self) -> str:
        """Return a text that differs for networks that compute different layers."""
        return "-".join((self.kind, *map(str, self.stages)))


LOGITS = OutputRequest()
"""The request for logits, the output of a classifier."""

IMAGE_EMBEDDINGS = OutputRequest("features")
"""The request for the output of MobileSAM's image encoder: the feature map that decoders take."""

IMAGE_EMBEDDINGS_NAME = "image_embeddings"
"""Name of the output of MobileSAM's image encoder. The decoders that SAM's export script and
samexporter write have an input of this name."""


def make_output_request(kind: str, stages: tuple[int, ...] | None = None) -> OutputRequest:
    """Check a request for an output.

    Args:
        kind: One of `OutputKind`.
        stages: Numbers of stages for "features", each once; None for all stages.

    Returns:
        The request, with its stages in ascending order.

    Raises:
        RequestError: The kind is not known, a stage does not exist, or stages are given for another
            kind.
    """
    kinds = get_args(OutputKind)
    if kind not in kinds:
        raise RequestError(
            f"--output {kind} is not possible",
            f"use one of {', '.join(kinds)}; the path of the file is given with -o",
        )
    if stages is None:
        return OutputRequest(kind, STAGES if kind == "features" else ())  # type: ignore[arg-type]
    text = ",".join(map(str, stages))
    if kind != "features":
        raise RequestError(
            f"--stages {text} selects feature maps, and --output is {kind}",
            "add --output features, or leave out --stages",
        )
    if not stages or len(set(stages)) != len(stages) or not set(stages) <= set(STAGES):
        raise RequestError(
            f"--stages {text} is not possible",
            "give some of the stages 0, 1, 2 and 3, as in timm's out_indices: their feature maps"
            " have 1/4, 1/8, 1/16 and 1/32 of the image's height and width",
        )
    return OutputRequest("features", tuple(sorted(stages)))


def parse_stages(text: str) -> tuple[int, ...]:
    """Parse the value of --stages, such as "1,2,3".

    Args:
        text: Numbers of stages, separated by commas.

    Returns:
        The numbers; `make_output_request` checks them.

    Raises:
        argparse.ArgumentTypeError: The text has another form.
    """
    numbers = text.split(",")
    if not all(len(number) == 1 and number in "0123456789" for number in numbers):
        raise ArgumentTypeError(f"{text!r} is not a list of stages, as in 1,2,3")
    return tuple(map(int, numbers))
