"""Accuracy of a network in torch on labeled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from tinyvit.distill.training.device import ComputeDevice
from tinyvit.metrics import AccuracyCounter
from tinyvit.quant.validation_data import ValidationSet

_BATCH = 32


@dataclass(frozen=True)
class AccuracyScores:
    """Accuracy on a set of images.

    Attributes:
        top1: Percent of images whose best class is correct.
        top5: Percent of images with the correct class among the best five.
        images: Number of images.
    """

    top1: float
    top5: float
    images: int

    def __str__(self) -> str:
        return f"top-1 {self.top1:.2f}%, top-5 {self.top5:.2f}% of {self.images} images"


def evaluate_model(
    model: nn.Module,
    validation: ValidationSet,
    device: ComputeDevice,
    rows: Sequence[int] | None = None,
) -> AccuracyScores:
    """Measure the accuracy of a network.

    Args:
        model: The network, on the device. Its training mode is restored afterwards.
        validation: The images with their classes.
        device: The device, which also decides the precision.
        rows: Rows of the classifier in the order of the validation's labels; None takes all.
    """
    was_training = model.training
    model.eval()
    counter = AccuracyCounter()
    with torch.inference_mode():
        for pixels, classes in validation.batches():
            for start in range(0, len(pixels), _BATCH):
                images = validation.preprocess.normalize(pixels[start : start + _BATCH])
                with device.autocast():
                    logits = model(device.images(torch.from_numpy(images))).float().cpu().numpy()
                logits = logits if rows is None else logits[:, list(rows)]
                counter.update(logits, classes[start : start + _BATCH])
    model.train(was_training)
    return AccuracyScores(counter.top1, counter.top5, counter.image_count)
