"""The predictions of one artifact for labeled images, image by image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyvit.bench.machine import count_cores
from tinyvit.data.dataset import Sample
from tinyvit.errors import ArtifactError, ImageError
from tinyvit.images import ChannelOrder
from tinyvit.metrics import rank_classes
from tinyvit.runtimes.classifier import Classifier

TOP_K = 5
"""Classes that a prediction keeps."""
_CHUNK = 32
"""Images that are prepared before the network runs on them, if the engine uses every core.

Preparation and inference at the same time would then only take cores from each other."""


@dataclass(frozen=True)
class ImagePrediction:
    """The prediction for one image.

    Attributes:
        classes: Indices of the `TOP_K` best classes, best first; of equal logits the lower index
            first. Empty if the image could not be read.
        score: Softmax probability of the best class, 0 to 1.
        error: Why the image could not be read; "" if it could.
    """

    classes: tuple[int, ...]
    score: float
    error: str = ""


def predict_samples(
    classifier: Classifier, samples: Sequence[Sample], channels: ChannelOrder = "rgb"
) -> Iterator[ImagePrediction]:
    """Classify images.

    Images are not rotated as their EXIF data says, because published evaluations do not do so.

    Args:
        classifier: The opened artifact.
        samples: The images.
        channels: Order of the color channels of images that are read as arrays.

    Yields:
        One prediction per image, in order.

    Raises:
        ArtifactError: The logits of an image, which the error names, are not finite.
    """
    threads = classifier.describe().runtime.threads
    chunk = _CHUNK if threads is not None and threads >= count_cores() else None
    rows = classifier.logits_each(
        (sample.read() for sample in samples), channels=channels, exif=False, chunk=chunk
    )
    for sample, row in zip(samples, rows):
        if isinstance(row, ImageError):
            yield ImagePrediction((), 0.0, row.cause)
        else:
            yield _make_prediction(row, sample.name)


def _make_prediction(logits: npt.NDArray[np.float32], name: str) -> ImagePrediction:
    """Make the prediction from the logits (classes,) of the image with a name."""
    if not np.isfinite(logits).all():
        raise ArtifactError(
            f"the logits of the image {name} are not finite", "check the file with tinyvit-verify"
        )
    classes = rank_classes(logits[None], TOP_K)[0]
    score = 1 / np.exp(logits.astype(np.float64) - logits.max()).sum()
    return ImagePrediction(tuple(classes.tolist()), float(score))
