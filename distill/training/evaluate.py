"""Measures the accuracy of a PyTorch network on labeled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from tinyvit.distill.training.device import ComputeDevice
from tinyvit.metrics import AccuracyCounter
from tinyvit.quant.validation_data import ValidationSet


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


def evaluate_model(
    model: nn.Module,
    validation: ValidationSet,
    device: ComputeDevice,
    kept_outputs: Sequence[int] | None = None,
) -> AccuracyScores:
    """Measure the accuracy of a network.

    Args:
        model: The network, on the device. If it is in training mode, it is evaluated in eval mode,
            and all its modules are in training mode afterwards.
        validation: The images with their classes.
        device: The device and the precision.
        kept_outputs: For each class index of `validation`, the index of the network's output (its
            logit) for this class; None if these indices are equal.

    Raises:
        RequestError: Too many images cannot be read.
    """
    was_training = model.training
    model.eval()
    counter = AccuracyCounter()
    with torch.inference_mode():
        for pixels, classes in validation.batches():
            images = validation.preprocess.normalize(pixels)
            with device.autocast():
                output = model(device.move_images(torch.from_numpy(images)))
            logits = output.float().cpu().numpy()
            if kept_outputs is not None:
                logits = logits[:, list(kept_outputs)]
            counter.update(logits, classes)
    model.train(was_training)
    return AccuracyScores(counter.top1, counter.top5, counter.image_count)
