"""Builds the manifest of an artifact, except the fields that depend on the target.

The manifest contains golden vectors: test inputs and the logits that engines must return for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tinyvit import golden
from tinyvit.errors import CheckpointError
from tinyvit.export.tracing import BATCH, INPUT, OUTPUT
from tinyvit.labels import Label
from tinyvit.manifest import (
    EmbeddedPreprocessing,
    GoldenVectors,
    Manifest,
    Precision,
    SourceCheckpoint,
    TensorSpec,
)
from tinyvit.preprocess import Preprocess

if TYPE_CHECKING:
    from tinyvit.nn.checkpoint import Checkpoint
    from tinyvit.nn.model import TinyViT

RELATIVE_TOLERANCE: dict[EmbeddedPreprocessing, float] = {
    "host": 1e-3,
    "normalize": 1e-3,
    "full": 1e-2,
}
"""Allowed difference between the logits of a float32 engine and those of the torch model, as a
fraction of the largest absolute logit, or of 1 if that is larger.

Engines differ by about 1e-5. If the artifact resizes, a few pixels also differ by one level of 255.
"""

ROUNDING_TOLERANCE: dict[Precision, float] = {"float16": 0.03, "int8": 0.08}
"""The same fraction for precisions that round values; if it is above `RELATIVE_TOLERANCE`, it
applies instead.

float16: the engine may compute in bfloat16, whose significand has 8 bits; the largest difference
seen was 0.004. int8: correct engines add float32 numbers in different orders, so a sum near the
middle between two integers may be rounded up or down; docs/lab-notes/int8.md has the differences
seen in correct engines and in kernels that saturate.
"""

SQUARES = ((8, 0), (8, 8), (12, 0))
"""Checkerboards among the golden inputs of an int8 network: (side of a square, shift of the
pattern), in input pixels.

Squares of 8 pixels detect saturating kernels better than all other images that were tried
(docs/lab-notes/int8.md). Sides and shifts are multiples of the side of a patch, 4 pixels.
"""

_CENTER_MARGIN = 64
"""Columns added on either side of a square golden image for embedded preprocessing "full" with a
center crop, so that the image is not square, as most images are not. After the image is halved, the
center crop removes 32 pixels more at the left than at the top; 32 is a multiple of the side of a
patch, so the squares stay aligned with the patches."""


@dataclass(frozen=True)
class _GoldenInputs:
    """The golden images, as arguments of `tinyvit.golden.make_golden_input`.

    Attributes:
        formula: Name of the formula that generates the images.
        patterns: One number per image, which selects the image that the formula generates.
        height: Height of the images, in pixels.
        width: Width of the images, in pixels.
    """

    formula: str
    patterns: tuple[int, ...]
    height: int
    width: int


def build_manifest(
    source: Checkpoint,
    labels: tuple[Label, ...],
    batch: int | None,
    embedded_preprocessing: EmbeddedPreprocessing,
    precision: Precision = "float32",
) -> Manifest:
    """Build a manifest without its golden vectors and without what depends on the target.

    Args:
        source: The checkpoint that is exported.
        labels: One label for each class, in the order of the logits.
        batch: Images per call; None for a dynamic batch.
        embedded_preprocessing: How much of the preprocessing is part of the artifact.
        precision: Precision of the artifact.

    Returns:
        A manifest whose `target` is "", whose `tools` are empty, and whose float32 input is NCHW.
    """
    size, batch_axis = source.img_size, batch or BATCH
    input_specs: dict[EmbeddedPreprocessing, TensorSpec] = {
        "host": TensorSpec(INPUT, (batch_axis, 3, size, size), "float32", "NCHW"),
        "normalize": TensorSpec(INPUT, (batch_axis, size, size, 3), "uint8", "NHWC"),
        "full": TensorSpec(INPUT, (1, "height", "width", 3), "uint8", "NHWC"),
    }
    return Manifest(
        model=source.name,
        variant=source.variant.name,
        img_size=size,
        target="",
        precision=precision,
        embedded_preprocessing=embedded_preprocessing,
        input=input_specs[embedded_preprocessing],
        output=TensorSpec(OUTPUT, (batch_axis, source.num_classes), "float32", "NC"),
        preprocess=source.preprocess,
        preprocess_source=source.preprocess_source,
        labels=labels,
        labels_source=source.labels_source,
        source=SourceCheckpoint(source.name, source.sha256),
        license=source.license,
        windows=source.windows,
        tools={},
    )


def make_golden_vectors(network: TinyViT, manifest: Manifest) -> GoldenVectors:
    """Compute the logits that the artifact must reproduce.

    Args:
        network: The network whose logits the artifact must reproduce. For float32 and float16, it
            is the network before folding; for int8, the quantized network with exact arithmetic.
        manifest: The artifact's manifest; its embedded preprocessing, precision, preprocessing and
            image size are used.

    Returns:
        The formula of the inputs, their logits rounded to 7 digits, and the tolerance.

    Raises:
        CheckpointError: A logit is NaN or infinite.
    """
    inputs = _choose_inputs(manifest)
    images = (
        golden.make_golden_input(pattern, inputs.height, inputs.width)
        for pattern in inputs.patterns
    )
    logits = np.concatenate(
        [
            _run_network(network, manifest.preprocess, manifest.embedded_preprocessing, image)
            for image in images
        ]
    )
    if not np.isfinite(logits).all():
        raise CheckpointError(
            f"the network {manifest.model} computes NaN or infinite logits from test images, so its"
            " weights are too large",
            "give a checkpoint that classifies images in PyTorch",
        )
    relative_tolerance = max(
        RELATIVE_TOLERANCE[manifest.embedded_preprocessing],
        ROUNDING_TOLERANCE.get(manifest.precision, 0.0),
    )
    tolerance = relative_tolerance * max(1.0, float(np.abs(logits).max()))
    return GoldenVectors(
        formula=inputs.formula,
        patterns=inputs.patterns,
        height=inputs.height,
        width=inputs.width,
        logits=tuple(tuple(float(f"{value:.7g}") for value in row) for row in logits),
        tolerance=float(f"{tolerance:.3g}"),
    )


def _choose_inputs(manifest: Manifest) -> _GoldenInputs:
    """Choose the golden images of an artifact: with squares for int8, otherwise without."""
    if manifest.precision == "int8":
        return _choose_int8_inputs(manifest)
    height = width = manifest.img_size
    if manifest.embedded_preprocessing == "full":
        # Larger than the network's input and not square, to check the resize and the crop.
        height, width = manifest.img_size * 5 // 4, manifest.img_size * 3 // 2
    return _GoldenInputs(golden.CHIRP_FORMULA, golden.CHIRP_PATTERNS, height, width)


def _choose_int8_inputs(manifest: Manifest) -> _GoldenInputs:
    """Choose the golden images of an int8 artifact, some of which are checkerboards.

    The squares must reach the network sharp and aligned with its patches; blurred or shifted
    squares hardly detect saturation. For an artifact that resizes, the image is therefore twice
    the resized size, and the squares are twice as large and shifted by the pixels that the crop
    removes.
    """
    size, preprocess = manifest.img_size, manifest.preprocess
    scale, height, width, cropped_pixels = 1, size, size, 0
    if manifest.embedded_preprocessing == "full":
        scale, height = 2, 2 * preprocess.resize
        cropped_pixels = round((preprocess.resize - size) / 2)
        width = height + (2 * _CENTER_MARGIN if preprocess.crop == "center" else 0)
    squares = [
        golden.square_pattern_number(scale * side, scale * (shift - cropped_pixels))
        for side, shift in SQUARES
    ]
    patterns = (*golden.CHIRP_PATTERNS, *squares)
    return _GoldenInputs(golden.SQUARES_FORMULA, patterns, height, width)


def _run_network(
    network: TinyViT,
    preprocess: Preprocess,
    embedded_preprocessing: EmbeddedPreprocessing,
    image: npt.NDArray[np.uint8],
) -> npt.NDArray[np.float64]:
    """Return the logits, (1, classes), for one image, uint8 (height, width, 3)."""
    import torch
    from PIL import Image

    pixels = (
        preprocess(Image.fromarray(image))
        if embedded_preprocessing == "full"
        else preprocess.normalize(image)
    )
    dtype = network.head.fc.weight.dtype
    with torch.no_grad():
        logits = network(torch.from_numpy(pixels)[None].to(dtype))
    values: npt.NDArray[np.float64] = logits.numpy().astype(np.float64)
    return values
