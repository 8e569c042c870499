"""What is asked of `train_student`, and the run that it becomes: checked, read, and refused before anything is trained where it cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit import __version__
from tinyvit.distill.augmentation.pictures import TrainingImages, read_training_images, split_of
from tinyvit.distill.augmentation.views import versions
from tinyvit.distill.logits.store import Store, open_store, require_matching_images
from tinyvit.distill.training import run_folder as state
from tinyvit.distill.training.config import TrainingConfig, drop_path_of
from tinyvit.distill.training.data_loader import TrainingData, workers_here
from tinyvit.distill.training.device import select_device
from tinyvit.distill.training.distributed import processes
from tinyvit.distill.training.qat import add_fake_quantization, calibrated, checkpoint_state
from tinyvit.distill.training.student import Student, make_student, read_init
from tinyvit.distill.training.trainer import Report, TrainingRun, TrainingTask
from tinyvit.errors import RequestError
from tinyvit.files import sha256
from tinyvit.labels import Label, numbered_labels
from tinyvit.nn.checkpoint import Checkpoint
from tinyvit.nn.fold import fold_model
from tinyvit.preprocess import Preprocess
from tinyvit.quant.recipe import read_recipe
from tinyvit.quant.validation_data import ValidationSet, read_validation_set


@dataclass(frozen=True)
class TrainingRequest:
    """student: a variant to begin from nothing, or init: a checkpoint. data: pictures in class folders, or without classes where there
    is a store. val_data: class folders to choose the best epoch by; of a `data` with "train" and "val", the latter. logits: a store,
    None to learn from labels alone. classes: "folders" for a model of the class folders of `data`, "teacher" for one of the store's
    classes. license: of what is made, that of `init` where None. qat: train with int8 in the graph, of the recipe in
    that file, or of one calibrated on `data` where it is "". weight_bits: of the latter."""

    data: Path
    output: Path
    settings: TrainingConfig
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
class Classes:
    """labels, count: of the classifier while training. rows: class of every picture among them, None where nobody knows. kept,
    kept_labels: what the finished model answers with, kept None for all."""

    labels: tuple[Label, ...] | None
    count: int
    rows: npt.NDArray[np.int64] | None
    kept: Sequence[int] | None
    kept_labels: tuple[Label, ...]


def train_student(
    asked: TrainingRequest, report: Report = lambda _: None, meter: Report | None = None
) -> Path:
    """Train, or go on; the path of the best checkpoint. report: for lines, meter: for one that is written over.

    Raises TinyViTError; what was written so far stays and is gone on from.
    """
    _require_sound(asked)
    pictures = read_training_images(asked.data)
    store = open_store(asked.logits) if asked.logits else None
    if store:
        require_matching_images(store, pictures)
        store.records(0)
    classes = settle(asked, pictures, store)
    init = read_init(asked.init) if asked.init else None
    student = make_student(
        asked.student, init, classes.labels, classes.count, asked.img_size, asked.settings.seed
    )
    labels = student.labels if classes.kept is None else classes.kept_labels
    source = TrainingData(
        pictures,
        classes.rows,
        store,
        asked.settings.augmentation,
        asked.settings.seed,
        student.model.img_size,
    )
    if asked.license:
        student = replace(student, license=asked.license)
    validation = _validation(asked, student.preprocess, labels)
    task = _task(asked, init, student, source, validation, labels, classes)
    with processes() as here:
        lines, written_over = (report, meter) if here.first else (lambda _: None, None)
        run = TrainingRun(
            task,
            select_device(asked.settings.precision, here.local_rank),  # type: ignore[arg-type]
            here,
            lines,
            written_over,
        )
        if here.first:
            settings = replace(
                asked.settings, drop_path=drop_path_of(asked.settings, student.model.variant)
            )
            state.open_run_folder(
                asked.output, _about(asked, task, store), settings, asked.overwrite
            )
        here.wait()
        run.report(_introduction(run, store))
        run.run(resume=(asked.output / state.STATE).is_file())
    return asked.output / state.BEST


def _require_sound(asked: TrainingRequest) -> None:
    """Raise RequestError where nothing is to be trained, or where the run would write over what it begins from."""
    if asked.student is None and asked.init is None:
        raise RequestError(
            "there is nothing to train", "give --student a variant, or --init a checkpoint"
        )
    if asked.workers is not None and asked.workers < 0:
        raise RequestError(
            f"--workers {asked.workers} is not possible", "give a number of processes, 0 for none"
        )
    for name, given in (("--init", asked.init), ("--qat", Path(asked.qat) if asked.qat else None)):
        if given and given.exists() and given.resolve().parent == asked.output.resolve():
            raise RequestError(
                f"{name} {given} lies in the run's own folder, where it would be replaced",
                "give -o another folder",
            )


def _task(
    asked: TrainingRequest,
    init: Checkpoint | None,
    student: Student,
    source: TrainingData,
    validation: ValidationSet | None,
    labels: tuple[Label, ...],
    classes: Classes,
) -> TrainingTask:
    """Raises RequestError where int8 is to be trained and there is no float network that it could repair."""
    workers = workers_here() if asked.workers is None else asked.workers
    task = TrainingTask(
        asked.output, student, source, validation, labels, classes.kept, asked.settings, workers
    )
    if asked.qat is None:
        return task
    if init is None or source.store is None:
        raise RequestError(
            "--qat needs a trained network and its answers",
            "give --init the checkpoint and --logits a store of its own",
        )
    if (init.img_size, init.labels or numbered_labels(init.num_classes)) != (
        student.model.img_size,
        student.labels,
    ):
        raise RequestError(
            "--qat repairs a network as it is",
            "leave out --img-size, and give a store of the checkpoint's own answers",
        )
    recipe = (
        read_recipe(Path(asked.qat))
        if asked.qat
        else calibrated(init, source.pictures.folder, asked.weight_bits)
    )
    if recipe.checkpoint_sha256 != init.sha256:
        raise RequestError(
            f"{asked.qat} is the recipe of another checkpoint",
            "leave it out, or give the one that --init was exported with",
        )
    network = add_fake_quantization(fold_model(student.model), recipe)
    return replace(
        task, student=replace(student, model=network), state=checkpoint_state, recipe=recipe
    )


def settle(asked: TrainingRequest, pictures: TrainingImages, store: Store | None) -> Classes:
    """Raises RequestError where the class folders are no classes of the store's, or where there is nothing to learn from."""
    if asked.classes not in ("folders", "teacher"):
        raise RequestError(f"--classes {asked.classes} is not known", "use folders or teacher")
    if store is None:
        if pictures.labels is None:
            raise RequestError(
                f"{pictures.folder} has no class folders",
                "give a folder with one folder a class, or --logits a store",
            )
        return Classes(
            pictures.labels, len(pictures.labels), pictures.classes, None, pictures.labels
        )
    header = store.header
    named = header.labels or numbered_labels(header.classes)
    wants_labels = asked.settings.label_weight > 0
    if asked.classes == "teacher" or pictures.labels is None:
        rows = _taught(pictures, named, store) if wants_labels else None
        return Classes(header.labels, header.classes, rows, None, named)
    rows = _taught(pictures, named, store)
    kept = [int(rows[int(np.argmax(pictures.classes == i))]) for i in range(len(pictures.labels))]
    return Classes(
        header.labels,
        header.classes,
        rows,
        None if kept == list(range(header.classes)) else kept,
        tuple(named[i] for i in kept),
    )


def _taught(
    pictures: TrainingImages, named: tuple[Label, ...], store: Store
) -> npt.NDArray[np.int64]:
    try:
        return pictures.known_as(named)
    except RequestError as error:
        teachers = ", ".join(teacher.name for teacher in store.header.teachers)
        raise RequestError(
            f"{error.cause}, which is here the store's teacher, {teachers}",
            "take a teacher of these classes, or learn without --logits; folders are named by WordNet id or label",
        ) from error


def _validation(
    asked: TrainingRequest, preprocess: Preprocess, labels: tuple[Label, ...]
) -> ValidationSet | None:
    folder = asked.val_data or (
        split_of(asked.data, "val") if split_of(asked.data, "val") != asked.data else None
    )
    return (
        None if folder is None else read_validation_set(split_of(folder, "val"), preprocess, labels)
    )


def _about(asked: TrainingRequest, task: TrainingTask, store: Store | None) -> dict[str, Any]:
    """What makes a run this run, besides its settings."""
    student, pictures = task.student, task.source.pictures
    about: dict[str, Any] = {
        "student": student.model.variant.name,
        "img_size": student.model.img_size,
        "init": student.source,
        "pictures": len(pictures),
        "data": pictures.sha256,
        "classes": asked.classes,
        "license": student.license,
        "tinyvit": __version__,
        "versions": versions(),
    }
    if store:
        header = store.header
        about["teachers"] = [asdict(teacher) for teacher in header.teachers]
        used = min(asked.settings.epochs, store.epochs)
        about["store"] = {
            "probe": header.probe,
            "top_k": header.top_k,
            "seed": header.seed,
            "size": header.size,
            "epochs": used,
        }
    if task.validation:
        about["validation"] = task.validation.sha256
    if asked.qat is not None:
        about["weight_bits"] = asked.weight_bits
        about["recipe"] = sha256(Path(asked.qat)) if asked.qat else ""
    return about


def _introduction(run: TrainingRun, store: Store | None) -> str:
    task, settings = run.task, run.settings
    taught = f"{len(task.labels)} classes from labels"
    if store:
        names = " + ".join(teacher.name for teacher in store.header.teachers)
        again = (
            f", used again every {store.epochs} epochs" if settings.epochs > store.epochs else ""
        )
        taught = (
            f"{len(task.labels)} classes, taught by {names} ({store.epochs} epochs stored{again})"
        )
    where = f"{run.device.name}, {'bfloat16' if run.device.bfloat16 else 'float32'}"
    model = task.student.model
    return (
        f"{model.variant.name} at {model.img_size}, {taught}; {task.student.head}; preset {settings.preset}, "
        f"{settings.epochs} epochs of {run.steps} steps of {settings.batch}; {where}"
    )
