"""Classifies labeled images with a PyTorch network, and measures its accuracy on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tinyvit.distill.training.device import ComputeDevice
from tinyvit.metrics import AccuracyCounter, rank_classes
from tinyvit.progress import NullProgress, Progress
from tinyvit.quant.images.validation_data import ValidationSet

_RANKED_CLASSES = 5
"""Number of classes that are kept for each image, as many as the top-5 accuracy needs."""


@dataclass(frozen=True)
class AccuracyScores:
    """Accuracy on a set of images.

    Attributes:
        top1: Percentage of images whose predicted class is correct.
        top5: Percentage of images whose correct class is among the five most probable classes.
        image_count: Number of images, without those that could not be read.
    """

    top1: float
    top5: float
    image_count: int

    def __str__(self) -> str:
        return f"top-1 {self.top1:.2f}%, top-5 {self.top5:.2f}% of {self.image_count} images"


@dataclass(frozen=True)
class ImagePredictions:
    """The predictions of a network for N images. Unreadable images are left out.

    Attributes:
        files: The image files.
        classes: Index of the correct class of each image, int64 (N,).
        ranked_classes: Indices of the most probable classes of each image, best first, int64
            (N, 5), or (N, C) for a network with C < 5 classes.
        confidences: Probability (softmax) of the most probable class of each image, 0 to 1,
            float32 (N,).
    """

    files: tuple[Path, ...]
    classes: npt.NDArray[np.int64]
    ranked_classes: npt.NDArray[np.int64]
    confidences: npt.NDArray[np.float32]

    @property
    def predicted_classes(self) -> npt.NDArray[np.int64]:
        """Return the index of the most probable class of each image, int64 (N,)."""
        return self.ranked_classes[:, 0]

    @property
    def is_correct(self) -> npt.NDArray[np.bool_]:
        """Return whether the most probable class of each image is correct, (N,)."""
        return np.asarray(self.predicted_classes == self.classes)

    def measure_accuracy(self) -> AccuracyScores:
        """Measure the accuracy on these images.

        Raises:
            RequestError: There are no images.
        """
        counter = AccuracyCounter()
        counter.update(self.ranked_classes, self.classes)
        return AccuracyScores(counter.top1, counter.top5, counter.image_count)


def predict_images(
    model: nn.Module,
    validation: ValidationSet,
    device: ComputeDevice,
    kept_outputs: Sequence[int] | None = None,
    progress: Progress = NullProgress(),
) -> ImagePredictions:
    """Classify images.

    Args:
        model: The network, on the device. If it is in training mode, it is evaluated in eval mode,
            and all its modules are in training mode afterwards.
        validation: The images with their classes.
        device: The device and the precision.
        kept_outputs: For each class index of `validation`, the index of the network's output (its
            logit) for this class; None if these indices are equal.
        progress: Receives the number of images that have been classified.

    Raises:
        RequestError: Too many images cannot be read.
    """
    was_training = model.training
    model.eval()
    all_classes, all_ranked, all_confidences = [], [], []
    finished = 0
    with torch.inference_mode():
        for pixels, classes in validation.batches():
            images = validation.preprocess.normalize(pixels)
            with device.autocast():
                output = model(device.move_images(torch.from_numpy(images)))
            logits = output.float().cpu()
            if kept_outputs is not None:
                logits = logits[:, list(kept_outputs)]
            all_classes.append(classes)
            all_ranked.append(rank_classes(logits.numpy(), _RANKED_CLASSES))
            all_confidences.append(logits.softmax(1).amax(1).numpy())
            finished += len(classes)
            progress.advance("measuring the accuracy, images", finished, len(validation))
    model.train(was_training)
    return ImagePredictions(
        validation.readable_files,
        np.concatenate(all_classes),
        np.concatenate(all_ranked),
        np.concatenate(all_confidences),
    )


def evaluate_model(
    model: nn.Module,
    validation: ValidationSet,
    device: ComputeDevice,
    kept_outputs: Sequence[int] | None = None,
    progress: Progress = NullProgress(),
) -> AccuracyScores:
    """Measure the accuracy of a network.

    Args:
        model: The network, as for `predict_images`.
        validation: The images with their classes.
        device: The device and the precision.
        kept_outputs: The outputs of the network to use, as for `predict_images`.
        progress: Receives the number of images that have been classified.

    Raises:
        RequestError: Too many images cannot be read.
    """
    return predict_images(model, validation, device, kept_outputs, progress).measure_accuracy()
