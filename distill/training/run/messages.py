"""Composes the messages that a training run shows at its start and at its end."""

from __future__ import annotations

from tinyvit.checkpoint_paths import BEST_CHECKPOINT
from tinyvit.distill.logits.store import Store
from tinyvit.distill.training.config import TrainingConfig
from tinyvit.distill.training.presets import LABEL_PRESETS, describe_scaled_warmup
from tinyvit.distill.training.run.folder import TrainingState
from tinyvit.distill.training.task import TrainingTask
from tinyvit.distill.training.trainer import TrainingRun
from tinyvit.distill.training.validation.early_stopping import count_epochs_since_best
from tinyvit.text.plurals import format_count


def describe_start(run: TrainingRun) -> list[str]:
    """Describe the network, the data and the settings of a run.

    Args:
        run: The run, before its first step.

    Returns:
        The messages, each on one line.
    """
    task, config = run.task, run.task.config
    model = task.student.model
    precision = "bfloat16" if run.device.uses_bfloat16 else "float32"
    epochs = format_count(config.epochs, "epoch")
    steps = format_count(run.steps_per_epoch, "step")
    return [
        f"training {model.variant.name} at {model.img_size} pixels on {run.device.name} in "
        f"{precision}",
        f"the result has {format_count(len(task.labels), 'class', 'classes')}; "
        f"{task.student.head_origin}",
        f"training images: {task.data.describe()}",
        *_describe_validation(task),
        _describe_supervision(task.data.store, config),
        f"preset {config.preset}: {epochs} of {steps}, with "
        f"{format_count(config.batch, 'image')} per step",
        *describe_scaled_warmup(config),
    ]


def _describe_validation(task: TrainingTask) -> list[str]:
    """Return the message about the validation images, as the only item; [] if there are none."""
    if task.validation is None:
        return []
    message = f"validation images: {task.validation.describe()}"
    if task.data.selected is not None:
        message += (
            f", held out from the training images because of --val-split {task.config.val_split:g}"
        )
    return [message]


def _describe_supervision(store: Store | None, config: TrainingConfig) -> str:
    """Return the message that says what the network learns from.

    For a store, it also states the number of its epochs, whether they are used repeatedly, and
    whether the paper uses this preset without a store.
    """
    if store is None:
        return "the network learns from the class labels"
    teachers = " and ".join(teacher.name for teacher in store.header.teachers)
    message = (
        f"the network learns from the predictions of {teachers}; the store has "
        f"{format_count(store.epochs, 'epoch')}"
    )
    if config.epochs > store.epochs:
        message += ", which are used repeatedly"
    if config.preset in LABEL_PRESETS:
        message += f"; in the paper, {config.preset} learns from class labels only"
    return message


def describe_result(task: TrainingTask, state: TrainingState) -> str:
    """Describe which epoch the best checkpoint is from, and why.

    Args:
        task: The task of the run.
        state: The progress of the finished run.

    Returns:
        The message, on one line.
    """
    if task.validation is None:
        return (
            f"there were no validation images, so {BEST_CHECKPOINT} is the network after the last "
            f"epoch, epoch {len(state.history)}"
        )
    count = count_epochs_since_best(state.history)
    message = (
        f"{BEST_CHECKPOINT} is the network after epoch {len(state.history) - count}, which has the "
        f"best top-1 accuracy on the validation images ({state.best_top1:.2f}%)"
    )
    if len(state.history) < task.config.epochs:
        message += (
            f"; the run stopped after epoch {len(state.history)} of {task.config.epochs}, because "
            f"--patience {task.config.patience} allows no more epochs without a better accuracy"
        )
    return message
