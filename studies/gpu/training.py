"""Makes the training runs and batches that the parts of this study and `teacher_overhead` use."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from tinyvit.data.class_folders import ImageFolder
from tinyvit.distill.logits.store import Store
from tinyvit.distill.training.batches.data_loader import (
    BatchLabels,
    BatchPredictions,
    TrainingBatch,
    TrainingData,
)
from tinyvit.distill.training.config import TrainingConfig
from tinyvit.distill.training.device import ComputeDevice
from tinyvit.distill.training.distributed import ProcessGroup
from tinyvit.distill.training.network.student import make_student
from tinyvit.distill.training.presets import PRESETS
from tinyvit.distill.training.task import TrainingTask
from tinyvit.distill.training.trainer import TrainingRun
from tinyvit.progress import NullProgress
from tinyvit.variants import VARIANTS

LEARNING_RATE = 1e-5
"""Learning rate of timed steps. It is low, so that random labels do not make the loss infinite."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a student and its batches.

    Attributes:
        student: Name of the variant.
        img_size: Side of the images in pixels.
        batch: Images per step.
        num_classes: Number of classes.
        top_k: Number of classes in a record of the store.
    """

    student: str
    img_size: int
    batch: int
    num_classes: int = 1000
    top_k: int = 10


def find_img_size(variant: str, img_size: int | None) -> int:
    """Return the image size of a variant in the study.

    Args:
        variant: Name of the variant.
        img_size: Side in pixels from the settings; None for that of the variant.
    """
    return img_size or VARIANTS[variant].img_size


def make_config(batch: int) -> TrainingConfig:
    """Return the settings of the paper's distillation, for a batch size.

    Args:
        batch: Images per step.
    """
    return replace(PRESETS["pretrain-22k"], batch=batch, accumulation=1)


def make_data(
    images: ImageFolder,
    config: TrainingConfig,
    size: int,
    class_indices: npt.NDArray[np.int64] | None = None,
    store: Store | None = None,
) -> TrainingData:
    """Make the data of a training run.

    Args:
        images: The images.
        config: The training settings, of which only the augmentation is used.
        size: Side of the augmented images in pixels.
        class_indices: Class of every image; None for a student that does not learn from labels.
        store: The teacher's predictions; None for a student that does not learn from a store.
    """
    return TrainingData(
        images=images,
        class_indices=class_indices,
        store=store,
        augmentation=config.augmentation,
        seed=0,
        size=size,
    )


def make_run(
    shape: Shape, config: TrainingConfig, device: ComputeDevice, data: TrainingData | None = None
) -> TrainingRun:
    """Make a training run of a new student with random weights.

    Args:
        shape: The sizes.
        config: The training settings.
        device: The device to train on.
        data: The images; None for a run whose batches come from `make_batch`.
    """
    student = make_student(
        shape.student,
        init=None,
        labels=None,
        num_classes=shape.num_classes,
        size=shape.img_size,
        seed=0,
    )
    folder = Path(tempfile.gettempdir())
    if data is None:
        # The images do not exist and are not read; their number makes an epoch of one step.
        keys = tuple(str(index) for index in range(shape.batch))
        images = ImageFolder(folder, keys, labels=None, class_indices=None)
        data = make_data(images, config, shape.img_size)
    task = TrainingTask(
        folder=folder,
        student=student,
        data=data,
        validation=None,
        labels=student.labels,
        kept_outputs=None,
        config=config,
        workers=0,
    )
    return TrainingRun(task, device, ProcessGroup(), NullProgress())


def make_batch(shape: Shape, device: str, seed: int = 0) -> TrainingBatch:
    """Make a batch of random images, labels and teacher outputs.

    Args:
        shape: The sizes.
        device: Device of the tensors.
        seed: Seed of the batch.
    """
    random = torch.Generator().manual_seed(seed)
    count, classes = shape.batch, shape.num_classes
    pixels = torch.randint(
        0,
        256,
        (count, shape.img_size, shape.img_size, 3),
        dtype=torch.uint8,
        generator=random,
    )
    labels = torch.randint(0, classes, (count,), generator=random)
    # The remaining probability of 0.1 belongs to the other classes.
    probabilities = 0.9 * torch.randn((count, shape.top_k), generator=random).softmax(1)
    return TrainingBatch(
        pixels=pixels.to(device),
        labels=BatchLabels(
            classes=labels.to(device),
            partner_classes=labels.flip(0).to(device),
            own_fractions=torch.rand(count, generator=random).to(device),
        ),
        teacher=BatchPredictions(
            classes=torch.rand((count, classes), generator=random)
            .topk(shape.top_k)
            .indices.to(device),
            probabilities=probabilities.to(device),
        ),
    )


def keep_labels(batch: TrainingBatch) -> TrainingBatch:
    """Return a batch without teacher outputs, whose loss is the cross-entropy with the labels."""
    return replace(batch, teacher=None)


def keep_teacher_outputs(batch: TrainingBatch) -> TrainingBatch:
    """Return a batch without labels, whose loss is the divergence from the teacher."""
    return replace(batch, labels=None)
