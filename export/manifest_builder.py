"""The manifest of an artifact, without what depends on the target, and its golden vectors."""

from __future__ import annotations

from dataclasses import dataclass
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
"""How far a float32 engine may be from the torch model, as a fraction of the largest logit (taken
to be at least 1).

Engines differ by about 1e-5. Where they resize, they also differ by the effect of one level of 255
in a few pixels.
"""

ROUNDING_TOLERANCE: dict[Precision, float] = {"float16": 0.03, "int8": 0.08}
"""The same fraction for precisions that round, where it is larger.

float16: the engine may compute in bfloat16, whose significand has 8 bits; the largest difference
seen was 0.004. int8: correct engines add float32 sums in different orders, and where a sum lies
between two integers, the result differs by a whole step; docs/int8.md has the differences seen in
correct engines and in kernels that saturate.
"""

SQUARES = ((8, 0), (8, 8), (12, 0))
"""Golden squares of an int8 network in its own pixels, as (side, shift).

Of all images that were tried, squares of 8 pixels expose saturating kernels best (docs/int8.md).
Sides and shifts are multiples of the 4 pixels of a patch.
"""

_CENTER_MARGIN = 64
"""Pixels by which an image for "full" is wider than high on either side. The center crop then cuts
off 32 more pixels of the halved image at the left than at the top, a multiple of the patch."""


@dataclass(frozen=True)
class _GoldenInputs:
    """The golden images, as formulas of tinyvit.golden; height and width are in pixels."""

    formula: str
    patterns: tuple[int, ...]
    height: int
    width: int


def build_manifest(
    source: Checkpoint,
    labels: tuple[Label, ...],
    batch: int | None,
    stage: PreprocessStage,
    precision: Precision = "float32",
) -> Manifest:
    """Build a manifest without its golden vectors and without what depends on the target.

    Args:
        source: The checkpoint that is exported.
        labels: One label for each class, in the order of the classifier's rows.
        batch: Images per call; None leaves the number open.
        stage: How much of the preprocessing is part of the artifact.
        precision: Precision of the artifact.

    Returns:
        A manifest whose `target` is "", whose `tools` are empty, and whose float32 input is NCHW.
    """
    size, images = source.img_size, batch or BATCH
    inputs: dict[PreprocessStage, TensorSpec] = {
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
        input=inputs[stage],
        output=TensorSpec(OUTPUT, (images, source.num_classes), "float32", "NC"),
        preprocess=source.preprocess,
        labels=labels,
        source=SourceCheckpoint(source.name, source.sha256),
        license=source.license,
        tools={},
    )


def make_golden_vectors(network: TinyViT, manifest: Manifest) -> GoldenVectors:
    """Compute the logits that the artifact must reproduce.

    Args:
        network: The network that the artifact must equal. For float32 and float16, it is the
            network before folding; for int8, the quantized network with exact arithmetic.
        manifest: The artifact's manifest; stage, precision, preprocessing and image size are read.

    Returns:
        The golden inputs as formulas, their logits rounded to 7 digits, and the tolerance.
    """
    inputs = _choose_inputs(manifest)
    images = (
        golden.make_pattern(pattern, inputs.height, inputs.width) for pattern in inputs.patterns
    )
    logits = np.concatenate(
        [_run_network(network, manifest.preprocess, manifest.stage, image) for image in images]
    )
    rounding = ROUNDING_TOLERANCE.get(manifest.precision, 0.0)
    relative = max(RELATIVE_TOLERANCE[manifest.stage], rounding)
    tolerance = relative * max(1.0, float(np.abs(logits).max()))
    return GoldenVectors(
        formula=inputs.formula,
        patterns=inputs.patterns,
        height=inputs.height,
        width=inputs.width,
        logits=tuple(tuple(float(f"{value:.7g}") for value in row) for row in logits),
        tolerance=float(f"{tolerance:.3g}"),
    )


def _choose_inputs(manifest: Manifest) -> _GoldenInputs:
    """Choose the golden images of an artifact.

    The squares of an int8 artifact must reach the network with their edges between its patches;
    blurred or shifted, they expose little. Where the artifact resizes, they are therefore drawn
    twice as large, shifted by what the crop cuts off, in an image that is halved exactly.
    """
    size, preprocess, resizes = manifest.img_size, manifest.preprocess, manifest.stage == "full"
    if manifest.precision != "int8":
        height, width = (size * 5 // 4, size * 3 // 2) if resizes else (size, size)
        return _GoldenInputs(golden.CHIRP_FORMULA, golden.PATTERNS, height, width)
    scale, height, width, cropped = 1, size, size, 0
    if resizes:
        scale, height = 2, 2 * preprocess.resize
        cropped = round((preprocess.resize - size) / 2)
        width = height + (2 * _CENTER_MARGIN if preprocess.crop == "center" else 0)
    squares = [
        golden.square_pattern_number(scale * side, scale * (shift - cropped))
        for side, shift in SQUARES
    ]
    patterns = (*golden.PATTERNS, *squares)
    return _GoldenInputs(golden.SQUARES_FORMULA, patterns, height, width)


def _run_network(
    network: TinyViT, preprocess: Preprocess, stage: PreprocessStage, image: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float64]:
    """Return the logits, (1, classes), of an image of uint8 pixels, (height, width, 3)."""
    import torch
    from PIL import Image

    pixels = preprocess(Image.fromarray(image)) if stage == "full" else preprocess.normalize(image)
    dtype = network.head.fc.weight.dtype
    with torch.no_grad():
        logits = network(torch.from_numpy(pixels)[None].to(dtype))
    values: npt.NDArray[np.float64] = logits.numpy().astype(np.float64)
    return values
