"""Builds the manifest of an artifact, except the fields that depend on the target.

The manifest contains golden vectors: test inputs and the outputs that engines must return for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from tinyvit import golden
from tinyvit.errors import CheckpointError
from tinyvit.export.checks.tolerances import choose_tolerance
from tinyvit.export.tracing import BATCH, INPUT, ExportableNetwork
from tinyvit.golden_outputs import select_compared_values
from tinyvit.image_sizes import height_and_width
from tinyvit.labels import Label
from tinyvit.manifest import Manifest
from tinyvit.manifest_parts import (
    EmbeddedPreprocessing,
    GoldenVectors,
    OutputSpec,
    Precision,
    SourceCheckpoint,
    TensorSpec,
)
from tinyvit.progress import NullProgress, Progress

if TYPE_CHECKING:
    import torch

    from tinyvit.nn.checkpoints.checkpoint import Checkpoint

SQUARES = ((8, 0), (8, 8), (5, 0), (12, 6), (12, 18), (4, 2))
"""Checkerboards among the golden inputs of an int8 network: (side of a square, shift of the
pattern), in input pixels.

Such squares detect saturating kernels better than all other images that were tried. Which of them
does it best depends on the network, so they differ (docs/lab-notes/int8.md).
"""

_PATCH_SIDE = 4
"""Height and width of the network's patches in pixels."""

_CENTER_MARGIN = 64
"""Smallest number of columns by which a resized golden image becomes wider, for embedded
preprocessing "full" with a center crop, so that the image has another shape than the network's
input, as most images have. With this number, the crop of a square removes 32 columns more at the
left than rows at the top."""


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
    outputs: tuple[OutputSpec, ...] = (),
) -> Manifest:
    """Build a manifest without its golden vectors and without what depends on the target.

    Args:
        source: The checkpoint that is exported.
        labels: One label for each class, in the order of the logits; empty for other outputs.
        batch: Images per call; None for a dynamic batch.
        embedded_preprocessing: How much of the preprocessing is part of the artifact.
        precision: Precision of the artifact.
        outputs: `Graph.outputs` of the traced network; empty for the logits of the checkpoint.

    Returns:
        A manifest whose `target` is "", whose `tools` are empty, and whose float32 input is NCHW.
    """
    batch_axis, (height, width) = batch or BATCH, height_and_width(source.img_size)
    input_specs: dict[EmbeddedPreprocessing, TensorSpec] = {
        "host": TensorSpec(INPUT, (batch_axis, 3, height, width), "float32", "NCHW"),
        "normalize": TensorSpec(INPUT, (batch_axis, height, width, 3), "uint8", "NHWC"),
        "full": TensorSpec(INPUT, (1, "height", "width", 3), "uint8", "NHWC"),
    }
    return Manifest(
        model=source.name,
        variant=source.architecture_name,
        img_size=source.img_size,
        target="",
        precision=precision,
        embedded_preprocessing=embedded_preprocessing,
        input=input_specs[embedded_preprocessing],
        outputs=outputs or (_describe_logits(source, batch_axis),),
        preprocess=source.preprocess,
        preprocess_source=source.preprocess_source,
        labels=labels,
        labels_source=source.labels_source if labels else "",
        source=SourceCheckpoint(source.name, source.sha256),
        license=source.license,
        windows=source.windows,
        tools={},
    )


def _describe_logits(source: Checkpoint, batch_axis: int | str) -> OutputSpec:
    return OutputSpec("logits", (batch_axis, source.num_classes), "float32", "NC", "logits")


def make_golden_vectors(
    network: ExportableNetwork, manifest: Manifest, progress: Progress = NullProgress()
) -> GoldenVectors:
    """Compute the outputs that the artifact must reproduce.

    Args:
        network: The network whose outputs the artifact must reproduce. For float32 and float16, it
            is the network before folding; for int8, the quantized network with exact arithmetic.
        manifest: The artifact's manifest; its embedded preprocessing, precision, preprocessing,
            image size and outputs are used.
        progress: Receives the number of finished inputs.

    Returns:
        The formula of the inputs, their outputs rounded to 7 digits, and the tolerances.

    Raises:
        CheckpointError: A value is NaN or infinite.
    """
    inputs = _choose_inputs(manifest)
    images = (
        golden.make_golden_input(pattern, inputs.height, inputs.width)
        for pattern in inputs.patterns
    )
    rows = []
    for number, image in enumerate(images, start=1):
        rows.append(_run_network(network, manifest, image))
        progress.advance(
            "computing the expected outputs, test inputs", number, len(inputs.patterns)
        )
    # One array for each output, (inputs, values).
    outputs = [np.concatenate(values) for values in zip(*rows)]
    for spec, values in zip(manifest.outputs, outputs):
        if not np.isfinite(values).all():
            name = "logits" if spec.kind == "logits" else f"values of the output {spec.name}"
            raise CheckpointError(
                f"the network {manifest.model} computes NaN or infinite {name} from test images, so"
                " its weights are too large",
                "give a checkpoint that classifies images in PyTorch",
            )
    return GoldenVectors(
        formula=inputs.formula,
        patterns=inputs.patterns,
        height=inputs.height,
        width=inputs.width,
        outputs=tuple(
            tuple(float(f"{value:.7g}") for values in row for value in values[0]) for row in rows
        ),
        tolerances=tuple(
            choose_tolerance(manifest, spec, values)
            for spec, values in zip(manifest.outputs, outputs)
        ),
    )


def _choose_inputs(manifest: Manifest) -> _GoldenInputs:
    """Choose the golden images of an artifact: with squares for int8, otherwise without."""
    if manifest.precision == "int8":
        return _choose_int8_inputs(manifest)
    height, width = height_and_width(manifest.img_size)
    if manifest.embedded_preprocessing == "full":
        # Larger than the network's input and of another shape, to check the resize and the crop.
        height, width = height * 5 // 4, width * 3 // 2
    return _GoldenInputs(golden.CHIRP_FORMULA, golden.CHIRP_PATTERNS, height, width)


def _choose_int8_inputs(manifest: Manifest) -> _GoldenInputs:
    """Choose the golden images of an int8 artifact, some of which are checkerboards.

    The squares must reach the network sharp and aligned with its patches; blurred or shifted
    squares hardly detect saturation. For an artifact that resizes, the image is therefore twice
    the resized size, and the squares are twice as large and shifted by the pixels that the crop
    removes.
    """
    preprocess, (height, width) = manifest.preprocess, height_and_width(manifest.img_size)
    scale, cropped_pixels = 1, 0
    if manifest.embedded_preprocessing == "full":
        scale, (resized_height, resized_width) = 2, height_and_width(preprocess.resize)
        cropped_pixels = round((resized_height - height) / 2)
        if preprocess.crop == "pad":
            # Three quarters of the height, in whole patches: the rest is padding.
            resized_height = 3 * resized_height // (4 * _PATCH_SIDE) * _PATCH_SIDE
            cropped_pixels = 0
        if preprocess.crop == "center":
            resized_width += _choose_center_margin(resized_width - width, cropped_pixels)
        height, width = 2 * resized_height, 2 * resized_width
    squares = [
        golden.square_pattern_number(scale * side, scale * (shift - cropped_pixels))
        for side, shift in SQUARES
    ]
    patterns = (*golden.CHIRP_PATTERNS, *squares)
    return _GoldenInputs(golden.SQUARES_FORMULA, patterns, height, width)


def _choose_center_margin(excess: int, cropped_rows: int) -> int:
    """Choose the number of columns by which a resized golden image becomes wider.

    The squares are shifted by the same number of pixels in both directions, so they are aligned
    with the patches only if the crop removes equal numbers of rows and columns, apart from a
    multiple of the side of a patch.

    Args:
        excess: Columns that the crop would remove from the resized image without the margin.
        cropped_rows: Rows that the crop removes at the top.
    """
    margins = range(_CENTER_MARGIN, _CENTER_MARGIN + 2 * _PATCH_SIDE + 1)
    return next(
        margin
        for margin in margins
        if (round((excess + margin) / 2) - cropped_rows) % _PATCH_SIDE == 0
    )


def _run_network(
    network: ExportableNetwork, manifest: Manifest, image: npt.NDArray[np.uint8]
) -> list[npt.NDArray[np.float64]]:
    """Return the compared values of each output, (1, values), for one image.

    The image is uint8 (height, width, 3).
    """
    import torch
    from PIL import Image

    preprocess = manifest.preprocess
    pixels = (
        preprocess(Image.fromarray(image))
        if manifest.embedded_preprocessing == "full"
        else preprocess.normalize(image)
    )
    module = cast("torch.nn.Module", network)
    dtype = next(module.parameters()).dtype
    with torch.no_grad():
        outputs = network(torch.from_numpy(pixels)[None].to(dtype))
    tensors = outputs if isinstance(outputs, tuple) else (outputs,)
    return [
        select_compared_values(tensor.numpy().astype(np.float64), spec)
        for tensor, spec in zip(tensors, manifest.outputs)
    ]
