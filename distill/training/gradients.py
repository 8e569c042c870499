"""Computes the gradient of a batch, which may be divided into parts that fit into memory."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tinyvit.distill.training.batches.data_loader import BatchErasures, TrainingBatch
from tinyvit.distill.training.batches.memory import explain_out_of_memory
from tinyvit.distill.training.batches.mixing import mix_images
from tinyvit.distill.training.device import ComputeDevice
from tinyvit.distill.training.distributed import ProcessGroup
from tinyvit.distill.training.loss import compute_training_loss
from tinyvit.distill.training.network.drop_path import DropPath
from tinyvit.distill.training.task import TrainingTask

_SEED_STRIDE = 1_000_003
"""Difference between the random seeds of consecutive steps."""


class GradientComputer:
    """Computes the gradient of a step as the sum of the gradients of the parts of a batch.

    The sum equals the gradient of the whole batch, except that BatchNorm layers in training mode
    use the mean and variance of each part.

    Attributes:
        image_count: Number of images per step in this process.
    """

    def __init__(
        self,
        task: TrainingTask,
        device: ComputeDevice,
        processes: ProcessGroup,
        model: nn.Module,
        drop_path: DropPath,
    ) -> None:
        """Prepare the computation.

        Args:
            task: The inputs and outputs of the run.
            device: The device of this process.
            processes: The position of this process among those that train together.
            model: The network that is trained, on the device.
            drop_path: Chooses the images for which branches of the network are skipped.
        """
        self.image_count = task.config.batch // processes.count
        self._config, self._device = task.config, device
        self._first_position = processes.rank * self.image_count
        self._model = processes.wrap(model)
        self._drop_path = drop_path
        self._augmentation = task.data.batch_mixing
        scale, shift = task.student.preprocess.scale_and_shift()
        self._scale = torch.from_numpy(scale).to(device.name)
        self._shift = torch.from_numpy(shift).to(device.name)

    def add_gradients(self, parts: Iterable[TrainingBatch], step: int) -> float:
        """Add the gradient of a batch to the gradients of the network's parameters.

        With several processes, the result is the mean over all processes.

        Args:
            parts: The parts of this process's share of the batch, with `image_count` images in all.
            step: Number of the step, from 0.

        Returns:
            The mean loss of this process's images.

        Raises:
            RequestError: A part does not fit into memory.
        """
        seed = self._config.seed + _SEED_STRIDE * step
        self._drop_path.draw(self._config.batch, seed)
        loss_sum, images_done = 0.0, 0
        for part in parts:
            count = len(part.pixels)
            start = self._first_position + images_done
            images_done += count
            is_last = images_done >= self.image_count
            self._drop_path.select(start, start + count, self._device.name)
            part_count = -(-self.image_count // count)
            with (
                self._synchronize_if(is_last),
                explain_out_of_memory(self._device.name, count, part_count),
            ):
                loss = self._compute_loss(part, step, start) * (count / self.image_count)
                loss.backward()  # type: ignore[no-untyped-call]
            loss_sum += float(loss.detach())
        return loss_sum

    def _synchronize_if(self, is_last: bool) -> AbstractContextManager[None]:
        """Return a context that leaves gradients in this process, except for the last part."""
        if isinstance(self._model, DistributedDataParallel) and not is_last:
            return self._model.no_sync()
        return nullcontext()

    def _compute_loss(self, part: TrainingBatch, step: int, start: int) -> Tensor:
        """Return the mean loss of a part whose first image has the position `start`."""
        images = self._normalize(part.pixels)
        if part.erasures is not None:
            _erase_boxes(images, part.erasures)
        if self._augmentation is not None and part.labels is not None:
            step_seed = (self._config.seed, step)
            images, labels = mix_images(images, part.labels, self._augmentation, step_seed, start)
            part = replace(part, labels=labels)
        with self._device.autocast():
            logits = self._model(images)
        return compute_training_loss(logits, part, self._config)

    def _normalize(self, pixels: Tensor) -> Tensor:
        """Convert uint8 (B, S, S, 3) to normalized float32 (B, 3, S, S) on the device.

        With scale = 1 / (255 std) and shift = mean / std, (level / 255 - mean) / std is
        level * scale - shift.
        """
        values = pixels.to(self._device.name, non_blocking=True) * self._scale - self._shift
        return values.permute(0, 3, 1, 2)


def _erase_boxes(images: Tensor, erasures: BatchErasures) -> None:
    """Put the boxes of noise over normalized images, float32 (B, 3, S, S), in place."""
    noise, start = erasures.noise.to(images.device), 0
    for index, top, left, height, width in erasures.boxes.tolist():
        box = noise[start : start + 3 * height * width].reshape(3, height, width)
        images[index, :, top : top + height, left : left + width] = box
        start += box.numel()
