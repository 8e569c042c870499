"""A request to train: checked, and turned into a run, before anything is trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tinyvit import __version__
from tinyvit.data.class_folders import read_image_folder, split_folder
from tinyvit.distill.augmentation.views import library_versions
from tinyvit.distill.logits.store import Store, open_store, require_matching_images
from tinyvit.distill.training import run_folder
from tinyvit.distill.training.class_selection import ClassSelection, select_classes
from tinyvit.distill.training.config import TrainingConfig
from tinyvit.distill.training.data_loader import TrainingData, default_workers
from tinyvit.distill.training.device import select_device
from tinyvit.distill.training.distributed import join_process_group
from tinyvit.distill.training.presets import drop_path_rate
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
        data: Folder of images in class folders; with a store, also without class folders.
        output: Folder of the run.
        config: The training settings.
        student: Variant to train with new weights; optional with `init`.
        init: Checkpoint to begin from; None for new weights.
        val_data: Class folders that decide which epoch is best. None takes "val" of a `data`
            folder that holds "train" and "val", else no validation.
        logits: Folder of a store; None learns from labels alone.
        img_size: Image size in pixels; None takes that of the checkpoint or variant.
        classes: "folders" for a model of the class folders of `data`, "teacher" for a model of
            all of the teacher's classes.
        license: License of the result; None takes that of `init`.
        workers: Processes that make views; None chooses by the number of cores.
        overwrite: Whether another run in `output` may be replaced.
        qat: Recipe file for quantization-aware training; "" calibrates on `data`; None trains in
            float.
        weight_bits: Width of the weights of a recipe that is calibrated.
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
    """Everything a request names, opened."""

    init: Checkpoint | None
    student: Student
    data: TrainingData
    classes: ClassSelection
    validation: ValidationSet | None
    labels: tuple[Label, ...]


def train_student(request: TrainingRequest, progress: Progress | None = None) -> Path:
    """Train a student, or resume the run in the output folder.

    What was written stays after an error or an interruption, and the same request resumes it.

    Args:
        request: What to train.
        progress: Receives messages and counts of steps.

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
        shown = (progress or NullProgress()) if processes.is_first else NullProgress()
        device = select_device(config.precision, processes.local_rank)
        run = TrainingRun(task, device, processes, shown)
        if processes.is_first:
            rate = drop_path_rate(config, inputs.student.model.variant)
            run_folder.open_run_folder(
                request.output,
                _describe(request, task),
                replace(config, drop_path=rate),
                request.overwrite,
            )
        processes.wait()
        shown.message(_introduce(run))
        run.run(resume=(request.output / run_folder.STATE_FILE).is_file())
    return request.output / run_folder.BEST_CHECKPOINT


def _check_request(request: TrainingRequest) -> None:
    """Refuse a request that trains nothing, or that would replace what it begins from."""
    if request.student is None and request.init is None:
        raise RequestError(
            "there is no network to train", "give --student a variant, or --init a checkpoint"
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
                f"{option} {path} lies in the run's own folder, where it would be replaced",
                "give -o another folder",
            )


def _open_inputs(request: TrainingRequest) -> _Inputs:
    config = request.config
    images = read_image_folder(request.data)
    store = open_store(request.logits) if request.logits else None
    if store:
        require_matching_images(store, images)
        store.read_epoch(0)  # refuses a store without a finished epoch now, not in a worker
    classes = select_classes(images, store, request.classes, config.label_weight > 0)
    init = read_init(request.init) if request.init else None
    student = make_student(
        request.student, init, classes.labels, classes.num_classes, request.img_size, config.seed
    )
    if request.license:
        student = replace(student, license=request.license)
    data = TrainingData(
        images,
        classes.class_indices,
        store,
        config.augmentation,
        config.seed,
        student.model.img_size,
    )
    labels = student.labels if classes.kept_rows is None else classes.kept_labels
    validation = _read_validation(request, student.preprocess, labels)
    return _Inputs(init, student, data, classes, validation, labels)


def _read_validation(
    request: TrainingRequest, preprocess: Preprocess, labels: tuple[Label, ...]
) -> ValidationSet | None:
    folder = request.val_data
    if folder is None:
        own_validation = split_folder(request.data, "val")
        folder = None if own_validation == request.data else own_validation
    if folder is None:
        return None
    return read_validation_set(split_folder(folder, "val"), preprocess, labels)


def _make_task(request: TrainingRequest, inputs: _Inputs) -> TrainingTask:
    """Make the task; for quantization-aware training, with fake quantization in the network."""
    task = TrainingTask(
        folder=request.output,
        student=inputs.student,
        data=inputs.data,
        validation=inputs.validation,
        labels=inputs.labels,
        kept_rows=inputs.classes.kept_rows,
        config=request.config,
        workers=default_workers() if request.workers is None else request.workers,
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
        RequestError: There is no trained network to repair, or the recipe belongs to another.
    """
    init, student = inputs.init, inputs.student
    if init is None or inputs.data.store is None:
        raise RequestError(
            "--qat needs a trained network and its own stored outputs",
            "give --init the checkpoint, and --logits a store that this checkpoint made",
        )
    init_labels = init.labels or numbered_labels(init.num_classes)
    if (init.img_size, init_labels) != (student.model.img_size, student.labels):
        raise RequestError(
            "--qat cannot change the image size or the classes of a network",
            "leave out --img-size, and give --logits a store that this checkpoint made",
        )
    if not request.qat:
        return calibrate_recipe(init, inputs.data.images.folder, request.weight_bits)
    recipe = read_recipe(Path(request.qat))
    if recipe.checkpoint_sha256 != init.sha256:
        raise RequestError(
            f"{request.qat} is the recipe of another checkpoint",
            "leave it out, or give the recipe that --init was exported with",
        )
    return recipe


def _describe(request: TrainingRequest, task: TrainingTask) -> dict[str, Any]:
    """Describe what identifies a run besides its settings, for run.toml."""
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


def _introduce(run: TrainingRun) -> str:
    """Describe a run in one line for people."""
    task, config, store = run.task, run.task.config, run.task.data.store
    origin = f"{len(task.labels)} classes from labels"
    if store:
        teachers = " + ".join(teacher.name for teacher in store.header.teachers)
        repeats = f", repeated every {store.epochs} epochs" if config.epochs > store.epochs else ""
        origin = (
            f"{len(task.labels)} classes from the outputs of {teachers} "
            f"({store.epochs} stored epochs{repeats})"
        )
    model = task.student.model
    precision = "bfloat16" if run.device.uses_bfloat16 else "float32"
    return (
        f"training {model.variant.name} at {model.img_size} pixels, {origin}, "
        f"{task.student.head_origin}; preset {config.preset}, {config.epochs} epochs of "
        f"{run.steps_per_epoch} steps of {config.batch}; {run.device.name}, {precision}"
    )
