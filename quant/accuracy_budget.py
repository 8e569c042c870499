"""What int8 costs in accuracy: the same images through the float32 artifact and the int8 one, and whether that is affordable."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyvit.manifest import Manifest
from tinyvit.runtimes.base import Runtime, run_in_batches

ImageBatches = Callable[[], Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64] | None]]]
"""Every call goes through the images anew: pixels (B, S, S, 3), and their classes (B,) where they are known."""

Z95 = 1.96


@dataclass(frozen=True)
class AccuracyBudget:
    """max_drop: points of top-1 that may be lost where there are classes. min_agreement: percent of images with float32's
    top-1, where there are none. The point estimates decide."""

    max_drop: float = 0.5
    min_agreement: float = 98.5


@dataclass(frozen=True)
class ArtifactOutputs:
    """What one artifact answers: logits (images, classes), and the right class of each image, None where nobody knows."""

    logits: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64] | None


@dataclass(frozen=True)
class PairedComparison:
    """int8 against float32 on `images` images. agreement, top1 and float_top1 in percent, the latter None without classes.

    worse, better: images that only float32, or only int8, has right.
    """

    images: int
    agreement: float
    top1: float | None = None
    float_top1: float | None = None
    worse: int = 0
    better: int = 0

    @property
    def drop(self) -> float | None:
        """Points of top-1 lost."""
        return None if self.top1 is None or self.float_top1 is None else self.float_top1 - self.top1

    @property
    def margin(self) -> float:
        """Half the 95% interval of the drop, points: of a difference of paired proportions (Wald), or of the agreement (Wilson)."""
        if self.drop is None:
            share, n, z2 = self.agreement / 100, self.images, Z95**2
            return 100 * Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
        flips, net = self.worse + self.better, self.worse - self.better
        return 100 * Z95 * math.sqrt(max(flips - net * net / self.images, 0.0)) / self.images

    def within(self, budget: AccuracyBudget) -> bool:
        """By the drop where classes are known, else by the agreement."""
        if self.drop is not None:
            return round(self.drop, 6) <= budget.max_drop
        return round(self.agreement, 6) >= budget.min_agreement

    def __str__(self) -> str:
        agreement = f"{self.agreement:.1f}% of {self.images} images classified as in float32"
        if self.drop is None:
            return f"{agreement} (+-{self.margin:.1f})"
        flips = f"{self.worse} worse, {self.better} better"
        drop = f"a drop of {self.drop:.1f} +-{self.margin:.1f} points ({flips})"
        return f"top-1 {self.top1:.1f}%, float32 {self.float_top1:.1f}%: {drop}; {agreement}"


def run_artifact(runtime: Runtime, manifest: Manifest, images: ImageBatches) -> ArtifactOutputs:
    """Every image through an opened artifact that takes normalized images ("host"); a fixed batch is filled up and cut off."""
    batch = manifest.input.shape[0]
    logits: list[npt.NDArray[np.float32]] = []
    classes: list[npt.NDArray[np.int64]] = []
    for pixels, known in images():
        size = batch if isinstance(batch, int) else len(pixels)
        for start in range(0, len(pixels), size):
            part = manifest.preprocess.normalize(
                pixels[start : start + size], manifest.input.layout
            )
            logits.append(run_in_batches(runtime, part, batch))
        if known is not None:
            classes.append(known)
    return ArtifactOutputs(np.concatenate(logits), np.concatenate(classes) if classes else None)


def compare_outputs(int8: ArtifactOutputs, float32: ArtifactOutputs) -> PairedComparison:
    """The two sets of answers compared, image by image."""
    ours, theirs = int8.logits.argmax(1), float32.logits.argmax(1)
    agreement = 100 * float((ours == theirs).mean())
    if float32.classes is None:
        return PairedComparison(len(ours), agreement)
    right, was_right = ours == float32.classes, theirs == float32.classes
    return PairedComparison(
        images=len(ours),
        agreement=agreement,
        top1=100 * float(right.mean()),
        float_top1=100 * float(was_right.mean()),
        worse=int((was_right & ~right).sum()),
        better=int((right & ~was_right).sum()),
    )
