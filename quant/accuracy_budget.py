"""The accuracy that int8 may lose, and how an int8 artifact is compared with the float32 one.

Both artifacts run on the same images in the target's own engine. Their outputs are compared image
by image with `tinyvit.metrics`, and an `AccuracyBudget` decides whether the loss is acceptable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tinyvit.data.batching import run_in_batches
from tinyvit.manifest import Manifest
from tinyvit.metrics import PairedComparison, compare_predictions
from tinyvit.runtimes.base import Runtime

ImageBatches: TypeAlias = (
    "Callable[[], Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64] | None]]]"
)
"""Starts a new pass over the images each time it is called.

Every batch is a pair: RGB pixels, uint8 (B, S, S, 3), already resized and cropped to the input size
S; and the correct class of each image as an index into the labels of the model, int64 (B,), or None
where the classes are unknown. All passes give the same images in the same order.
"""


@dataclass(frozen=True)
class AccuracyBudget:
    """The loss of accuracy that an int8 artifact may have.

    Attributes:
        max_drop: Percentage points of top-1 accuracy that may be lost. It decides where the
            correct classes are known.
        min_agreement: Percent of images that must get the same top-1 class as in float32. It
            decides where the correct classes are unknown.
    """

    max_drop: float = 0.5
    min_agreement: float = 98.5

    def allows(self, comparison: PairedComparison) -> bool:
        """Tell whether a comparison is within the budget.

        The measured values decide, without their confidence intervals.

        Args:
            comparison: The int8 artifact against the float32 one.
        """
        # Without rounding, 85.2 - 84.7 would exceed 0.5 by an error of floating point.
        if comparison.drop is not None:
            return round(comparison.drop, 6) <= self.max_drop
        return round(comparison.agreement, 6) >= self.min_agreement


@dataclass(frozen=True)
class ArtifactOutputs:
    """The outputs of one artifact for a set of images.

    Attributes:
        logits: Logits, float32 (images, classes).
        classes: The correct class of each image as an index into the labels of the model, int64
            (images,). None where the classes are unknown.
    """

    logits: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64] | None


def run_artifact(runtime: Runtime, manifest: Manifest, images: ImageBatches) -> ArtifactOutputs:
    """Run an artifact on every image.

    Args:
        runtime: The opened artifact. It takes normalized images (preprocessing stage "host").
        manifest: The manifest of the artifact: its input shape and layout, and its preprocessing.
        images: The images. An artifact with a fixed batch size gets them in batches of that size,
            the last one padded.

    Returns:
        The logits of all images in order, and their classes where they are known.
    """
    fixed_batch = manifest.input.shape[0]
    logits: list[npt.NDArray[np.float32]] = []
    classes: list[npt.NDArray[np.int64]] = []
    for pixels, batch_classes in images():
        # Normalizing one batch at a time bounds the memory for float32 pixels.
        size = fixed_batch if isinstance(fixed_batch, int) else len(pixels)
        for start in range(0, len(pixels), size):
            inputs = manifest.preprocess.normalize(
                pixels[start : start + size], manifest.input.layout
            )
            logits.append(run_in_batches(runtime.run, inputs, fixed_batch))
        if batch_classes is not None:
            classes.append(batch_classes)
    return ArtifactOutputs(np.concatenate(logits), np.concatenate(classes) if classes else None)


def compare_outputs(int8: ArtifactOutputs, float32: ArtifactOutputs) -> PairedComparison:
    """Compare the outputs of an int8 artifact with those of the float32 artifact.

    Args:
        int8: Outputs of the int8 artifact.
        float32: Outputs of the float32 artifact for the same images. Its classes count.

    Returns:
        The agreement and, where classes are known, both accuracies and the flips.

    Raises:
        RequestError: There are no images, or the outputs are of different numbers of images.
    """
    return compare_predictions(int8.logits, float32.logits, float32.classes)
