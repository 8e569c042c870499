"""Defines a training task: everything that a training run reads and where it writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from tinyvit.distill.training.batches.data_loader import TrainingData
from tinyvit.distill.training.config import TrainingConfig
from tinyvit.distill.training.network.student import Student
from tinyvit.labels import Label
from tinyvit.quant.images.validation_data import ValidationSet
from tinyvit.quant.recipe import Recipe


@dataclass(frozen=True)
class TrainingTask:
    """The inputs and outputs of a training run.

    Attributes:
        folder: The folder that the run writes to.
        student: The network to train.
        data: The training images, with their classes or the teacher's predictions.
        validation: Images on which the network is evaluated after every epoch, to find the best
            epoch; with None, the last epoch is the best one.
        labels: Labels of the saved checkpoints, one for each row of the classifier that is kept.
        kept_outputs: Indices of the outputs of the classifier that saved checkpoints keep; None
            keeps all.
        config: The training settings.
        workers: Number of processes that load images; 0 loads them in the training process.
        make_state_dict: Function that takes the trained network and returns the state dict to save.
        recipe: Quantization scales that the network is trained with, which are saved beside the
            best checkpoint; None without quantization-aware training.
    """

    folder: Path
    student: Student
    data: TrainingData
    validation: ValidationSet | None
    labels: tuple[Label, ...]
    kept_outputs: Sequence[int] | None
    config: TrainingConfig
    workers: int
    make_state_dict: Callable[[nn.Module], dict[str, Tensor]] = nn.Module.state_dict
    recipe: Recipe | None = None
