"""How right a network in torch is, on pictures in class folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from tinyvit.distill.training.device import ComputeDevice
from tinyvit.quant.validation_data import ValidationSet

BATCH = 32


@dataclass(frozen=True)
class AccuracyScores:
    """Percent of `images`."""

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
    """rows: of the classifier, in the order of the validation's labels; all where None. Precision as the device has it."""
    training = model.training
    model.eval()
    right1 = right5 = images = 0
    with torch.inference_mode():
        for pixels, classes in validation.batches():
            for start in range(0, len(pixels), BATCH):
                part = torch.from_numpy(
                    validation.preprocess.normalize(pixels[start : start + BATCH])
                )
                with device.autocast():
                    logits = model(device.images(part)).float().cpu()
                logits = logits if rows is None else logits[:, list(rows)]
                truth = torch.from_numpy(classes[start : start + BATCH])[:, None]
                best = logits.topk(min(5, logits.shape[1]), 1).indices == truth
                right1, right5, images = (
                    right1 + int(best[:, :1].sum()),
                    right5 + int(best.sum()),
                    images + len(part),
                )
    model.train(training)
    return AccuracyScores(100 * right1 / images, 100 * right5 / images, images)
