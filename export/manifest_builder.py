"""What an artifact will say of itself, whatever its target: the manifest with its golden vectors, from the torch model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tinyvit import golden
from tinyvit.export.tracing import BATCH, INPUT, OUTPUT
from tinyvit.labels import Label
from tinyvit.manifest import (
    GoldenVectors,
    Manifest,
    Precision,
    PreprocessStage,
    SourceCheckpoint,
    TensorSpec,
)
from tinyvit.preprocess import Preprocess

if TYPE_CHECKING:
    from tinyvit.nn.checkpoint import Checkpoint
    from tinyvit.nn.model import TinyViT

RELATIVE_TOLERANCE: dict[PreprocessStage, float] = {"host": 1e-3, "normalize": 1e-3, "full": 1e-2}
"""Of the largest logit (1 at least): how far a float32 engine may be from the torch model. Engines differ by about 1e-5,
and where they resize, by what one of 255 levels in a few pixels makes."""

ROUNDING_TOLERANCE: dict[Precision, float] = {"float16": 0.03, "int8": 0.08}
"""Of the largest logit too. Half: bfloat16 has 8 bits, and was seen to differ by 0.004. int8: right engines round float32 sums in
different orders, and where that falls on the edge between two integers, what follows differs by a whole step; docs/int8.md has
what right engines and saturating ones were seen to differ by."""


SQUARES = ((8, 0), (8, 8), (12, 0))
"""Golden squares of an int8 network, in its own pixels: (side, shift). Of all pictures that were tried, a
saturating kernel shows most on those of 8 (docs/int8.md); sides and shifts are multiples of the patches' 4 pixels."""


def build_manifest(
    source: Checkpoint,
    labels: tuple[Label, ...],
    batch: int | None,
    stage: PreprocessStage,
    precision: Precision = "float32",
) -> Manifest:
    """The manifest but for its golden vectors and what depends on the target. batch None is any."""
    size, images = source.img_size, batch or BATCH
    shapes: dict[PreprocessStage, TensorSpec] = {
        "host": TensorSpec(INPUT, (images, 3, size, size), "float32", "NCHW"),
        "normalize": TensorSpec(INPUT, (images, size, size, 3), "uint8", "NHWC"),
        "full": TensorSpec(INPUT, (1, "height", "width", 3), "uint8", "NHWC"),
    }
    return Manifest(
        model=source.name,
        variant=source.variant.name,
        img_size=size,
        target="",
        precision=precision,
        stage=stage,
        input=shapes[stage],
        output=TensorSpec(OUTPUT, (images, source.num_classes), "float32", "NC"),
        preprocess=source.preprocess,
        labels=labels,
        source=SourceCheckpoint(source.name, source.sha256),
        license=source.license,
        tools={},
    )


def make_golden_vectors(network: TinyViT, draft: Manifest) -> GoldenVectors:
    """What `network` answers to the golden inputs: what the artifact must equal. In float32 and half that is the network
    before folding, in int8 the exact reading of the quantized one.
    """
    stage, preprocess = draft.stage, draft.preprocess
    relative = max(RELATIVE_TOLERANCE[stage], ROUNDING_TOLERANCE.get(draft.precision, 0.0))
    formula, patterns, height, width = _inputs(draft)
    logits = np.concatenate(
        [
            _answer(network, preprocess, stage, golden.make_pattern(s, height, width))
            for s in patterns
        ]
    )
    tolerance = relative * max(1.0, float(np.abs(logits).max()))
    rows = tuple(tuple(float(f"{value:.7g}") for value in row) for row in logits)
    return GoldenVectors(formula, patterns, height, width, rows, float(f"{tolerance:.3g}"))


def _inputs(draft: Manifest) -> tuple[str, tuple[int, ...], int, int]:
    """(formula, patterns, height, width) of the golden inputs.

    In int8, squares reach the network with their edges between its patches: where the file resizes, they are drawn twice as
    large, shifted by what the crop cuts off, in a picture that is halved exactly. (Blurred or shifted, they show little.)
    """
    size, preprocess, resizes = draft.img_size, draft.preprocess, draft.stage == "full"
    if draft.precision != "int8":
        return (
            golden.CHIRP_FORMULA,
            golden.PATTERNS,
            *((size * 5 // 4, size * 3 // 2) if resizes else (size, size)),
        )
    scale, height, width, cut = 1, size, size, 0
    if resizes:
        # 2 * 64 pixels wider than high: the crop then cuts off 32 more at the left than above, and 32 is a multiple of the patches.
        scale, height, cut = 2, 2 * preprocess.resize, round((preprocess.resize - size) / 2)
        width = height + (128 if preprocess.crop == "center" else 0)
    squares = [
        golden.square_pattern(scale * side, scale * (shift - cut)) for side, shift in SQUARES
    ]
    return golden.SQUARES_FORMULA, (*golden.PATTERNS, *squares), height, width


def _answer(
    network: TinyViT, preprocess: Preprocess, stage: PreprocessStage, picture: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float64]:
    import torch
    from PIL import Image

    network_input = (
        preprocess(Image.fromarray(picture)) if stage == "full" else preprocess.normalize(picture)
    )
    precision = network.head.fc.weight.dtype
    with torch.no_grad():
        logits: npt.NDArray[np.float64] = (
            network(torch.from_numpy(network_input)[None].to(precision)).numpy().astype(np.float64)
        )
    return logits
