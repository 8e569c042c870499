"""Checks a request to train, opens its inputs, and starts the training run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tinyvit import __version__
from tinyvit.data.class_folders import find_split_folder, read_image_folder
from tinyvit.distill.augmentation.views import library_versions
from tinyvit.distill.logits.store import Store, open_store, require_matching_images
from tinyvit.distill.training import run_folder
from tinyvit.distill.training.class_selection import ClassSelection, select_classes
from tinyvit.distill.training.config import TrainingConfig
from tinyvit.distill.training.data_loader import TrainingData, default_worker_count
from tinyvit.distill.training.device import select_device
from tinyvit.distill.training.distributed import join_process_group
from tinyvit.distill.training.presets import select_drop_path_rate
from tinyvit.distill.training.qat import add_fake_quantization, calibrate_recipe, checkpoint_state
from tinyvit.distill.training.student import Student, make_student, read_init
from tinyvit.distill.training.trainer import TrainingRun, TrainingTask
from tinyvit.errors import RequestError
from tinyvit.files import sha256
from tinyvit.labels import Label, numbered_labels
from tinyvit.nn.checkpoint import Checkpoint
from tinyvit.nn.fold import fold_model
from tinyvit.preprocess import Preprocess
from tinyvit.progress import NullProgress, Progress
from tinyvit.quant.recipe import Recipe, read_recipe
from tinyvit.quant.validation_data import ValidationSet, read_validation_set


@dataclass(frozen=True)
class TrainingRequest:
    """A request to `tinyvit-distill train`.

    Attributes:
        data: Folder of training images in class folders, which are optional with a store.
        output: Folder of the run.
        config: The training settings.
        student: Variant to train from random weights; not needed with `init`.
        init: Checkpoint with the initial weights; None for random weights.
        val_data: Validation images in class folders, which determine the best epoch. None for the
            subfolder "val" if `data` contains "train" and "val", else for no validation.
        logits: Folder of a store (saved teacher outputs); None trains from class labels only.
        img_size: Image size in pixels; None for that of the checkpoint or variant.
        classes: Classes of the result with a store: "folders" keeps those with a class folder,
            "teacher" keeps all.
        license: License of the result; None for that of `init`.
        workers: Number of processes that load images; None chooses by the number of cores.
        overwrite: Whether a different run in `output` may be replaced.
        qat: Recipe file for quantization-aware training; "" calibrates a recipe on `data`; None
            trains without simulated quantization.
        weight_bits: Number of bits of the weights if the recipe is calibrated.
    """

    data: Path
    output: Path
    config: TrainingConfig
    student: str | None = None
    init: Path | None = None
    val_data: Path | None = None
    logits: Path | None = None
    img_size: int | None = None
    classes: str = "folders"
    license: str | None = None
    workers: int | None = None
    overwrite: bool = False
    qat: str | None = None
    weight_bits: int = 7


@dataclass(frozen=True)
class _Inputs:
    """The opened inputs of a request; `labels` are those of the result."""

    init: Checkpoint | None
    student: Student
    data: TrainingData
    selection: ClassSelection
    validation: ValidationSet | None
    labels: tuple[Label, ...]


def train_student(request: TrainingRequest, progress: Progress | None = None) -> Path:
    """Train a student, or resume the run in the output folder.

    After an error or an interruption, the same request resumes the run.

    Args:
        request: The network, the data and the settings.
        progress: Receives messages and the number of finished steps.

    Returns:
        Path of the best checkpoint.

    Raises:
        TinyViTError: The request is impossible, or an input cannot be used.
    """
    _check_request(request)
    inputs = _open_inputs(request)
    task = _make_task(request, inputs)
    config = request.config
    with join_process_group() as processes:
        visible_progress = (progress or NullProgress()) if processes.is_first else NullProgress()
        device = select_device(config.precision, processes.local_rank)
        run = TrainingRun(task, device, processes, visible_progress)
        if processes.is_first:
            rate = select_drop_path_rate(config, inputs.student.model.variant)
            run_folder.open_run_folder(
                request.output,
                _describe_run(request, task),
                replace(config, drop_path=rate),
                request.overwrite,
            )
        processes.wait()
        visible_progress.message(_start_message(run))
        run.run(resume=(request.output / run_folder.STATE_FILE).is_file())
    return request.output / run_folder.BEST_CHECKPOINT


def _check_request(request: TrainingRequest) -> None:
    """Raise an error for a request without a network, or whose output would replace its input."""
    if request.student is None and request.init is None:
        raise RequestError(
            "neither --student nor --init was given",
            "give --student a variant, or --init a checkpoint",
        )
    if request.workers is not None and request.workers < 0:
        raise RequestError(
            f"--workers {request.workers} is not possible",
            "give a number of processes from 0",
        )
    recipe = Path(request.qat) if request.qat else None
    for option, path in (("--init", request.init), ("--qat", recipe)):
        if path and path.exists() and path.resolve().parent == request.output.resolve():
            raise RequestError(
                f"{option} {path} is in the output folder, where the run could replace it",
                "give -o another folder",
            )


def _open_inputs(request: TrainingRequest) -> _Inputs:
    config = request.config
    images = read_image_folder(request.data)
    store = open_store(request.logits) if request.logits else None
    if store:
        require_matching_images(store, images)
        store.read_epoch(0)  # fails here, not later in a worker, if no epoch is finished
    selection = select_classes(images, store, request.classes, config.label_weight > 0)
    init = read_init(request.init) if request.init else None
    student = make_student(
        request.student,
        init,
        selection.labels,
        selection.num_classes,
        request.img_size,
        config.seed,
    )
    if request.license:
        student = replace(student, license=request.license)
    data = TrainingData(
        images,
        selection.class_indices,
        store,
        config.augmentation,
        config.seed,
        student.model.img_size,
    )
    labels = student.labels if selection.kept_rows is None else selection.kept_labels
    validation = _read_validation(request, student.preprocess, labels)
    return _Inputs(init, student, data, selection, validation, labels)


def _read_validation(
    request: TrainingRequest, preprocess: Preprocess, labels: tuple[Label, ...]
) -> ValidationSet | None:
    folder = request.val_data
    if folder is None:
        own_validation = find_split_folder(request.data, "val")
        folder = None if own_validation == request.data else own_validation
    if folder is None:
        return None
    return read_validation_set(find_split_folder(folder, "val"), preprocess, labels)


def _make_task(request: TrainingRequest, inputs: _Inputs) -> TrainingTask:
    """Make the task; for quantization-aware training, add fake quantization to the network."""
    task = TrainingTask(
        folder=request.output,
        student=inputs.student,
        data=inputs.data,
        validation=inputs.validation,
        labels=inputs.labels,
        kept_rows=inputs.selection.kept_rows,
        config=request.config,
        workers=default_worker_count() if request.workers is None else request.workers,
    )
    if request.qat is None:
        return task
    recipe = _read_qat_recipe(request, inputs)
    network = add_fake_quantization(fold_model(inputs.student.model), recipe)
    student = replace(inputs.student, model=network)
    return replace(task, student=student, export_state=checkpoint_state, recipe=recipe)


def _read_qat_recipe(request: TrainingRequest, inputs: _Inputs) -> Recipe:
    """Read or calibrate the recipe of quantization-aware training.

    Raises:
        RequestError: A checkpoint or a store is missing, or the recipe belongs to another
            checkpoint.
    """
    init, student = inputs.init, inputs.student
    if init is None or inputs.data.store is None:
        raise RequestError(
            "--qat needs a trained checkpoint, and its own outputs in a store",
            "give --init the checkpoint, and --logits a store made with this checkpoint as teacher",
        )
    init_labels = init.labels or numbered_labels(init.num_classes)
    if (init.img_size, init_labels) != (student.model.img_size, student.labels):
        raise RequestError(
            "--qat cannot change the image size or the classes of a network",
            "leave out --img-size, and give --logits a store made with this checkpoint as teacher",
        )
    if not request.qat:
        return calibrate_recipe(init, inputs.data.images.folder, request.weight_bits)
    recipe = read_recipe(Path(request.qat))
    if recipe.checkpoint_sha256 != init.sha256:
        raise RequestError(
            f"{request.qat} is the recipe of another checkpoint",
            "give --qat without a file, or give the recipe that --init was exported with",
        )
    return recipe


def _describe_run(request: TrainingRequest, task: TrainingTask) -> dict[str, Any]:
    """Return the table [run] of run.toml: everything but the settings that identifies a run."""
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
        "versions": library_versions(),
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
    header = store.header
    return {
        "probe_sha256": header.probe_sha256,
        "top_k": header.top_k,
        "seed": header.seed,
        "size": header.size,
        "epochs": min(epochs, store.epochs),
    }


def _start_message(run: TrainingRun) -> str:
    """Return the message that is shown when training starts."""
    task, config, store = run.task, run.task.config, run.task.data.store
    learns_from = f"{len(task.labels)} classes from labels"
    if store:
        teachers = " + ".join(teacher.name for teacher in store.header.teachers)
        repeats = f", repeated every {store.epochs} epochs" if config.epochs > store.epochs else ""
        learns_from = (
            f"{len(task.labels)} classes from the outputs of {teachers} "
            f"({store.epochs} stored epochs{repeats})"
        )
    model = task.student.model
    precision = "bfloat16" if run.device.uses_bfloat16 else "float32"
    return (
        f"training {model.variant.name} at {model.img_size} pixels, {learns_from}, "
        f"{task.student.head_origin}; preset {config.preset}, {config.epochs} epochs of "
        f"{run.steps_per_epoch} steps of {config.batch}; {run.device.name}, {precision}"
    )
