"""Runs a request to train: opens its inputs, prepares the output folder, and trains."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tinyvit import __version__
from tinyvit.checkpoint_paths import BEST_CHECKPOINT
from tinyvit.distill.augmentation.probe import get_library_versions
from tinyvit.distill.logits.store import Store
from tinyvit.distill.packages import require_training_packages
from tinyvit.distill.training.batches.sample_order import make_sample_order
from tinyvit.distill.training.batches.size import fit_batch
from tinyvit.distill.training.config import TrainingConfig
from tinyvit.distill.training.device import select_device
from tinyvit.distill.training.distributed import (
    ProcessGroup,
    is_first_process,
    join_process_group,
)
from tinyvit.distill.training.inputs import TrainingInputs, make_task, open_inputs
from tinyvit.distill.training.presets import select_drop_path_rate
from tinyvit.distill.training.reports.run_reports import report_run
from tinyvit.distill.training.request import TrainingRequest, check_request
from tinyvit.distill.training.run import folder as run_folder
from tinyvit.distill.training.run.messages import describe_result, describe_start
from tinyvit.distill.training.task import TrainingTask
from tinyvit.distill.training.trainer import TrainingRun
from tinyvit.distill.training.validation.split_lists import write_split_lists
from tinyvit.files.file_io import sha256
from tinyvit.files.file_locks import FOLDER_LOCK_NAME, hold_lock
from tinyvit.progress import NullProgress, Progress
from tinyvit.text.plurals import format_count


def train_student(request: TrainingRequest, progress: Progress | None = None) -> Path:
    """Train a student, or resume the run in the output folder.

    To resume a run after an error or an interruption, call this function with an equal request.

    Args:
        request: The network, the data and the settings.
        progress: Receives messages and the number of finished steps, from the first process only.

    Returns:
        Path of the best checkpoint.

    Raises:
        TinyViTError: The request is impossible, an input cannot be used, the output folder
            contains a different run or is in use by another process, or the loss is NaN or
            infinite.
        OSError: A file cannot be written, for example on a full disk. What was saved before stays
            as it is, and a call with an equal request continues from it.
    """
    require_training_packages()
    check_request(request)
    with _hold_run_folder(request.output):
        return _train(request, progress)


def _hold_run_folder(folder: Path) -> AbstractContextManager[None]:
    """Keep other runs out of the output folder; only the first process of a run locks it."""
    if not is_first_process():
        return nullcontext()
    lock_file = folder / FOLDER_LOCK_NAME
    return hold_lock(lock_file, f"the run folder {folder}", "use -o with another folder")


def _train(request: TrainingRequest, progress: Progress | None) -> Path:
    """Train or resume in an output folder that no other run uses."""
    inputs = open_inputs(request)
    with join_process_group() as processes:
        visible_progress: Progress = NullProgress()
        if progress is not None and processes.is_first:
            visible_progress = progress
        config = _fit_config(request, inputs, processes, visible_progress)
        request = replace(request, config=config)
        task = make_task(request, inputs)
        device = select_device(request.config.precision, processes.local_rank)
        run = TrainingRun(task, device, processes, visible_progress)
        if processes.is_first:
            _prepare_folder(request, task)
        processes.wait()
        for message in describe_start(run):
            visible_progress.message(message)
        state = run.run(resume=(request.output / run_folder.STATE_FILE).is_file())
        if processes.is_first:
            report = report_run(request, task, device, visible_progress)
            for message in (describe_result(task, state), *report):
                visible_progress.message(message)
    return request.output / BEST_CHECKPOINT


def _fit_config(
    request: TrainingRequest, inputs: TrainingInputs, processes: ProcessGroup, progress: Progress
) -> TrainingConfig:
    """Return the settings that apply to the data, and report a batch that is too large for it."""
    config = request.config
    if inputs.data.selected is None:
        config = replace(config, val_split=0.0)
    if not request.fits_batch:
        return config
    view_count = len(make_sample_order(inputs.data, config))
    batch = fit_batch(config.batch, view_count, processes.count)
    if batch != config.batch:
        progress.message(
            f"an epoch has only {format_count(view_count, 'image')}: the batch has "
            f"{format_count(batch, 'image')} instead of the {config.batch} of the preset "
            f"{config.preset}, and the learning rate is lower in proportion"
        )
    return replace(config, batch=batch)


def _prepare_folder(request: TrainingRequest, task: TrainingTask) -> None:
    """Write run.toml, or check that the run in the output folder is the requested one."""
    config = request.config
    drop_path_rate = select_drop_path_rate(config, task.student.model.variant)
    run_folder.open_run_folder(
        request.output,
        _describe_run(request, task),
        replace(config, drop_path=drop_path_rate),
        request.overwrite,
    )
    if task.data.selected is not None and task.validation is not None:
        write_split_lists(task)


def _describe_run(request: TrainingRequest, task: TrainingTask) -> dict[str, Any]:
    """Return the table [run] of run.toml, which identifies a run together with its settings."""
    student, images, store = task.student, task.data.images, task.data.store
    description: dict[str, Any] = {
        "student": student.model.variant.name,
        "img_size": student.model.img_size,
        "init_sha256": student.init_sha256,
        "image_count": len(images),
        "images_sha256": images.sha256,
        "classes": request.classes,
        "license": student.license,
        "tinyvit": __version__,
        "versions": get_library_versions(),
    }
    if store:
        description["teachers"] = [asdict(teacher) for teacher in store.header.teachers]
        description["store"] = _describe_store(store, request.config.epochs)
    if task.validation:
        description["validation_sha256"] = task.validation.sha256
    if request.qat is not None:
        description["weight_bits"] = request.weight_bits
        description["recipe_sha256"] = sha256(Path(request.qat)) if request.qat else ""
    return description


def _describe_store(store: Store, epochs: int) -> dict[str, Any]:
    """Return the values that determine which stored predictions a run uses.

    `epochs` is the number of epochs of the run.
    """
    header = store.header
    return {
        "probe_sha256": header.probe_sha256,
        "top_k": header.top_k,
        "seed": header.seed,
        "size": header.size,
        "epochs": min(epochs, store.epochs),
    }
