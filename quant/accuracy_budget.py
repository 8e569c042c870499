"""Decides whether an int8 artifact is accurate enough, compared with the float32 artifact.

An artifact is an exported file. The int8 artifact and the float32 artifact run on the same images
in the same engine. `tinyvit.metrics` compares their outputs image by image, and an `AccuracyBudget`
decides whether the loss is acceptable.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tinyvit.data.batching import run_outputs_in_batches
from tinyvit.data.calibration_images import Pixels
from tinyvit.data.decoding import map_ahead
from tinyvit.golden_outputs import sample_values
from tinyvit.manifest import Manifest
from tinyvit.metrics import (
    PairedComparison,
    SimilarityComparison,
    compare_logits,
    compare_similarity,
)
from tinyvit.outputs import OutputKind
from tinyvit.runtimes.base import Runtime

BatchFactory: TypeAlias = (
    "Callable[[], Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64] | None]]]"
)
"""A function that returns a new iterator in every call, always over the same batches of images.

Each batch is a pair: RGB pixels, uint8 (B, H, W, 3), already resized and cropped to the input size;
and the correct class of each image as an index into the labels of the model, int64 (B,), or None if
the classes are unknown.
"""


Comparison: TypeAlias = PairedComparison | SimilarityComparison
"""How an int8 artifact compares with the float32 artifact: by its classes, or by its vectors."""

MAX_COMPARED_VALUES = 2**14
"""Largest number of values of one output and image that are compared. Larger feature maps are
represented by so many values that are evenly spaced, so that all images fit into memory."""


@dataclass(frozen=True)
class AccuracyBudget:
    """The loss of accuracy that an int8 artifact may have.

    Attributes:
        max_drop: Percentage points of top-1 accuracy that may be lost. Used if the correct classes
            are known.
        min_agreement: Percent of images for which int8 and float32 must predict the same class.
            Used if the correct classes are unknown.
        min_cosine: Smallest mean cosine similarity of the outputs of int8 and float32, 0 to 1. Used
            for embeddings and feature maps.
    """

    max_drop: float = 0.5
    min_agreement: float = 98.5
    min_cosine: float = 0.99

    def allows(self, comparison: Comparison) -> bool:
        """Return whether a comparison is within the budget.

        The measured values alone are checked. Their confidence intervals are ignored.

        Args:
            comparison: The comparison of the int8 artifact with the float32 artifact.
        """
        if isinstance(comparison, SimilarityComparison):
            return round(comparison.cosine, 6) >= self.min_cosine  # false for NaN
        # The values are rounded, because in floating point 85.2 - 84.7 is slightly more than 0.5.
        if comparison.drop is not None:
            return round(comparison.drop, 6) <= self.max_drop
        return round(comparison.agreement, 6) >= self.min_agreement


@dataclass(frozen=True)
class ArtifactOutputs:
    """The outputs of one artifact for a set of images.

    Attributes:
        outputs: Values of each output, float32 (images, values): all values of logits and
            embeddings, at most `MAX_COMPARED_VALUES` of a feature map.
        correct_classes: The correct class of each image as an index into the labels of the model,
            int64 (images,), or None if the classes are unknown.
        kind: What the outputs mean.
    """

    outputs: tuple[npt.NDArray[np.float32], ...]
    correct_classes: npt.NDArray[np.int64] | None
    kind: OutputKind = "logits"

    @property
    def logits(self) -> npt.NDArray[np.float32]:
        """The values of the first output."""
        return self.outputs[0]


ImageReporter: TypeAlias = "Callable[[int], None]"
"""A function that receives the number of images that an artifact has finished so far."""


def ignore_images(_finished: int) -> None:
    """Do nothing; the `ImageReporter` for a run whose progress is not shown."""


def run_artifact(
    runtime: Runtime,
    manifest: Manifest,
    make_batches: BatchFactory,
    report_images: ImageReporter = ignore_images,
    streams: int = 1,
) -> ArtifactOutputs:
    """Run an artifact on every image.

    Args:
        runtime: The opened artifact. Its input must be normalized images (embedded
            preprocessing "host").
        manifest: The manifest of the artifact, which states the shape and layout of the input and
            the preprocessing.
        make_batches: Returns the images, in batches of any size. For an artifact with a fixed batch
            size, each of these batches is divided into batches of the artifact's size; the last of
            them is padded, and the logits of the padding are left out.
        report_images: Receives the number of finished images after every batch.
        streams: Number of batches that the runtime can compute at the same time.

    Returns:
        The outputs for all images in order, and the correct classes if they are known.
    """
    fixed_batch = manifest.input.shape[0]
    classes: list[npt.NDArray[np.int64]] = []

    def split_batches() -> Iterator[Pixels]:
        for pixels, batch_classes in make_batches():
            if batch_classes is not None:
                classes.append(batch_classes)
            step = fixed_batch if isinstance(fixed_batch, int) else len(pixels)
            yield from (pixels[start : start + step] for start in range(0, len(pixels), step))

    def run(pixels: Pixels) -> list[npt.NDArray[np.float32]]:
        # Only the batches that are being computed are normalized, to limit the memory: float32
        # pixels need four times as much as uint8 pixels.
        inputs = manifest.preprocess.normalize(pixels, manifest.input.layout)
        outputs = run_outputs_in_batches(runtime.run_outputs, inputs, fixed_batch)
        return [sample_values(output, _count_values(manifest)) for output in outputs]

    parts: list[list[npt.NDArray[np.float32]]] = []
    finished = 0
    for outputs in map_ahead(run, split_batches(), threads=streams, ahead=streams):
        parts.append(outputs)
        finished += len(outputs[0])
        report_images(finished)
    return ArtifactOutputs(
        outputs=tuple(map(np.concatenate, zip(*parts))),
        correct_classes=np.concatenate(classes) if classes else None,
        kind=manifest.output_kind,
    )


def _count_values(manifest: Manifest) -> int:
    """Return how many values of each output are kept: all, except for feature maps."""
    return MAX_COMPARED_VALUES if manifest.output_kind == "features" else sys.maxsize


def compare_outputs(int8: ArtifactOutputs, float32: ArtifactOutputs) -> Comparison:
    """Compare the outputs of an int8 artifact with those of the float32 artifact.

    Args:
        int8: Outputs of the int8 artifact.
        float32: Outputs of the float32 artifact for the same images. The correct classes are taken
            from here; those in `int8` are ignored.

    Returns:
        For logits, the agreement; if the correct classes are known, also both top-1 accuracies and
        the numbers of images that only one of the two artifacts classifies correctly. For
        embeddings and feature maps, the similarity.

    Raises:
        RequestError: There are no images, or the outputs are of different numbers of images.
    """
    if int8.kind != "logits":
        return compare_similarity(
            int8.outputs, float32.outputs, finds_neighbors=int8.kind == "embedding"
        )
    return compare_logits(int8.logits, float32.logits, float32.correct_classes)
