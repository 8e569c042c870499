"""Classifies labeled images with one artifact, and keeps the best classes of each image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyvit.bench.machine import count_cores
from tinyvit.data.dataset import Sample
from tinyvit.errors import ArtifactError, ImageError
from tinyvit.images.decoding import ChannelOrder
from tinyvit.metrics import rank_classes
from tinyvit.runtimes.classifier import Classifier

TOP_K = 5
"""Maximum number of classes in a prediction."""
_CHUNK_IMAGES = 32
"""Number of images in a chunk.

If the engine uses every core, all cores first prepare a chunk of images, and then the network runs
on them. If both ran at the same time, they would slow down each other. If the engine leaves cores
free or does not state its number of threads, there are no chunks, and images are prepared while the
network runs.
"""


@dataclass(frozen=True)
class ImagePrediction:
    """The prediction for one image.

    Attributes:
        classes: Indices of the `TOP_K` most probable classes, best first. Classes with equal logits
            are in the order of their indices. Empty if the image could not be read.
        score: Softmax probability of the first class, 0 to 1; 0 if the image could not be read.
        error: The reason why the image could not be read; "" if it was read.
    """

    classes: tuple[int, ...]
    score: float
    error: str = ""


def predict_samples(
    classifier: Classifier, samples: Sequence[Sample], channels: ChannelOrder = "rgb"
) -> Iterator[ImagePrediction]:
    """Classify images.

    The EXIF orientation of images is ignored, as in published evaluations.

    Args:
        classifier: The opened artifact.
        samples: The images.
        channels: Order of the color channels, for samples whose source is an array.

    Yields:
        One prediction per image, in order.

    Raises:
        ArtifactError: The logits of an image are not finite. The error names the image.
    """
    threads = classifier.describe().runtime.threads
    uses_every_core = threads is not None and threads >= count_cores()
    chunk = _CHUNK_IMAGES if uses_every_core else None
    logits_or_errors = classifier.logits_each(
        (sample.get_source() for sample in samples), channels=channels, exif=False, chunk=chunk
    )
    for sample, logits_or_error in zip(samples, logits_or_errors):
        if isinstance(logits_or_error, ImageError):
            yield ImagePrediction(classes=(), score=0.0, error=logits_or_error.cause)
        else:
            yield _make_prediction(logits_or_error, sample.name)


def _make_prediction(logits: npt.NDArray[np.float32], image_name: str) -> ImagePrediction:
    """Create a prediction from logits, (classes,). The name of the image is for error messages."""
    if not np.isfinite(logits).all():
        raise ArtifactError(
            f"the logits of the image {image_name} are not finite",
            "check the file with tinyvit-verify",
        )
    classes = rank_classes(logits[None], TOP_K)[0]
    # This is the softmax of the largest logit.
    score = 1 / np.exp(logits.astype(np.float64) - logits.max()).sum()
    return ImagePrediction(tuple(classes.tolist()), float(score))
