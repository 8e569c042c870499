"""Saves the network of a training run as the last checkpoint and as the best one."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from tinyvit.checkpoint_paths import BEST_CHECKPOINT, LAST_CHECKPOINT
from tinyvit.distill.training.network.student import save_checkpoint
from tinyvit.distill.training.run.folder import RECIPE_FILE
from tinyvit.distill.training.task import TrainingTask
from tinyvit.files.file_io import sha256


def save_checkpoints(task: TrainingTask, model: nn.Module, is_best: bool) -> None:
    """Save a network as the last checkpoint, and also as the best one if it is the best.

    The network learns all classes of the teacher, and the user may want fewer. The checkpoints
    contain only the outputs of the classifier that `task.kept_outputs` lists.

    Args:
        task: The task of the run.
        model: The network, or the average of its weights.
        is_best: Whether no earlier epoch has a network that is as good.
    """
    names = [LAST_CHECKPOINT]
    if is_best:
        names.append(BEST_CHECKPOINT)
    state_dict = task.make_state_dict(model)
    for name in names:
        save_checkpoint(
            task.folder / name,
            state_dict,
            task.labels,
            task.student.preprocess,
            task.student.license,
            task.kept_outputs,
        )
    # A recipe is a set of quantization scales that belong to one checkpoint, which it names by its
    # hash. In quantization-aware training, the scales now belong to the new weights.
    if task.recipe and is_best:
        checkpoint_sha256 = sha256(task.folder / BEST_CHECKPOINT)
        recipe = replace(task.recipe, checkpoint_sha256=checkpoint_sha256)
        recipe.save(task.folder / RECIPE_FILE)
