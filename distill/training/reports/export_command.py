"""Composes the command that exports the result of a training run to int8."""

from __future__ import annotations

from pathlib import Path

from tinyvit.checkpoint_paths import BEST_CHECKPOINT, name_checkpoint
from tinyvit.distill.training.request import TrainingRequest
from tinyvit.distill.training.run.folder import (
    RECIPE_FILE,
    TRAINING_FILE,
    VALIDATION_FILE,
)
from tinyvit.distill.training.task import TrainingTask
from tinyvit.distill.training.validation.images import find_validation_folder
from tinyvit.distill.training.validation.split_lists import has_split_lists
from tinyvit.quant.config import CPU_WEIGHT_BITS
from tinyvit.quant.images.calibration_data import MIN_IMAGES
from tinyvit.text.safe_text import quote_argument


def make_export_command(request: TrainingRequest, task: TrainingTask) -> str:
    """Return the command that exports the best checkpoint of a run to int8.

    It calibrates on the training images, or uses the scales of quantization-aware training. It
    measures the accuracy on the validation images. If these were held out from the training images,
    the command uses the two lists that the run has written.

    Args:
        request: The request of the run.
        task: The task of the run.

    Returns:
        The command for a POSIX shell. The paths are relative if those of the request are. If there
        are too few training images to calibrate on, the command calibrates on synthetic images.
    """
    folder, images = request.output, task.data.images
    arguments: list[str | Path] = ["--checkpoint", folder / BEST_CHECKPOINT, "--int8"]
    if task.recipe is not None:
        arguments += ["--recipe", folder / RECIPE_FILE]
        if task.recipe.weight_bits == CPU_WEIGHT_BITS["vnni"]:
            arguments += ["--cpu", "vnni"]
    calibration_images, validation_images = images.folder, find_validation_folder(request)
    if task.data.selected is not None and has_split_lists(folder):
        calibration_images = folder / TRAINING_FILE
        validation_images = folder / VALIDATION_FILE
    # At least one image is held out from calibration.
    if len(task.data) > MIN_IMAGES:
        arguments += ["--calib-data", calibration_images]
    if task.validation is not None and validation_images is not None:
        arguments += ["--val-data", validation_images]
    arguments += ["-o", folder / f"{name_checkpoint(folder)}.int8.onnx"]
    words = [
        quote_argument(argument) if isinstance(argument, Path) else argument
        for argument in arguments
    ]
    return " ".join(["tinyvit-export", *words])
