"""Writes the reports of a finished training run, and composes its last messages."""

from __future__ import annotations

from tinyvit.checkpoint_paths import BEST_CHECKPOINT
from tinyvit.distill.training.device import ComputeDevice
from tinyvit.distill.training.network.qat import add_fake_quantization
from tinyvit.distill.training.reports.class_accuracy import describe_worst_classes
from tinyvit.distill.training.reports.evaluation_files import write_evaluation
from tinyvit.distill.training.reports.export_command import make_export_command
from tinyvit.distill.training.request import TrainingRequest
from tinyvit.distill.training.task import TrainingTask
from tinyvit.distill.training.validation.evaluate import ImagePredictions, predict_images
from tinyvit.nn.checkpoints.loading import load_checkpoint
from tinyvit.nn.fold import fold_model
from tinyvit.progress import NullProgress, Progress
from tinyvit.quant.images.validation_data import ValidationSet


def report_run(
    request: TrainingRequest,
    task: TrainingTask,
    device: ComputeDevice,
    progress: Progress = NullProgress(),
) -> list[str]:
    """Evaluate the best checkpoint of a finished run, and write the files about the evaluation.

    Without validation images, no file is written.

    Args:
        request: The request of the run.
        task: The task of the run.
        device: The device and the precision of the run.
        progress: Receives a message, and the numbers of images and files that are finished.

    Returns:
        Messages, each on one line: the worst classes, the files, and the command that exports the
        checkpoint.

    Raises:
        TinyViTError: The checkpoint or too many validation images cannot be read.
        OSError: A file cannot be written.
    """
    messages = []
    if task.validation is not None:
        progress.message("evaluating the best checkpoint")
        predictions = _predict_with_best_network(task, task.validation, device, progress)
        written = write_evaluation(predictions, task.labels, task.folder, progress)
        messages += [describe_worst_classes(predictions, task.labels), written.describe()]
    return [*messages, f"to export it in int8: {make_export_command(request, task)}"]


def _predict_with_best_network(
    task: TrainingTask, validation: ValidationSet, device: ComputeDevice, progress: Progress
) -> ImagePredictions:
    """Classify the validation images with the network of the best epoch.

    The best epoch may be an earlier one, or one before an interruption, so its network is read from
    the checkpoint. This has only the outputs that the run keeps.
    """
    model = load_checkpoint(task.folder / BEST_CHECKPOINT).build()
    if task.recipe is not None:
        model = add_fake_quantization(fold_model(model), task.recipe)
    return predict_images(device.move_module(model), validation, device, progress=progress)
