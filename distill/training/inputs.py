"""Opens the inputs of a request to train, and makes the training task from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tinyvit.data.class_folders import read_image_folder
from tinyvit.distill.logits.store import open_store, require_matching_images
from tinyvit.distill.training.batches.data_loader import TrainingData, choose_worker_count
from tinyvit.distill.training.network.class_selection import ClassSelection, select_classes
from tinyvit.distill.training.network.new_class_rows import fill_new_class_rows
from tinyvit.distill.training.network.qat import add_fake_quantization, make_checkpoint_state
from tinyvit.distill.training.network.student import Student, make_student
from tinyvit.distill.training.presets import select_image_size
from tinyvit.distill.training.request import TrainingRequest
from tinyvit.distill.training.task import TrainingTask
from tinyvit.distill.training.validation.images import find_validation_images
from tinyvit.errors import RequestError
from tinyvit.image_sizes import require_square
from tinyvit.labels import Label, numbered_labels
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.checkpoints.hub import load_file_or_released
from tinyvit.nn.fold import fold_model
from tinyvit.quant.calibration import calibrate_recipe, require_points
from tinyvit.quant.channel_ranges.equalization import Equalization
from tinyvit.quant.images.calibration_data import read_calibration_set
from tinyvit.quant.images.validation_data import ValidationSet
from tinyvit.quant.recipe import Recipe, read_recipe


@dataclass(frozen=True)
class TrainingInputs:
    """The open inputs of a request.

    Attributes:
        init: Checkpoint with the initial weights; None for random weights.
        student: The network to train, without simulated quantization.
        data: The training images, with their classes or the teacher's predictions.
        selection: The classes during training, and those that the saved checkpoints keep.
        validation: Images that determine the best epoch; None if there are none.
        result_labels: Labels of the classes that the saved checkpoints keep.
    """

    init: Checkpoint | None
    student: Student
    data: TrainingData
    selection: ClassSelection
    validation: ValidationSet | None
    result_labels: tuple[Label, ...]


def open_inputs(request: TrainingRequest) -> TrainingInputs:
    """Open the images, the store and the checkpoint of a request, and make the student.

    Args:
        request: The request.

    Raises:
        TinyViTError: An input cannot be used, or two inputs do not fit together.
    """
    config = request.config
    images = read_image_folder(request.data)
    store = open_store(request.logits) if request.logits else None
    if store:
        require_matching_images(store.header, store.folder, images)
        store.read_epoch(0)  # fails here, not later in a worker, if no epoch is finished
    if config.balance:
        images.require_class_folders("--balance")
    validation_source = find_validation_images(request, images, store)
    selection = select_classes(images, store, request.classes, uses_labels=config.label_weight > 0)
    init = load_file_or_released(request.init) if request.init else None
    student = make_student(
        name=request.student,
        init=init,
        labels=selection.labels,
        num_classes=selection.num_classes,
        size=select_image_size(config.preset, request.img_size),
        seed=config.seed,
    )
    if init and init.labels and config.new_class_rows == "mean":
        student = fill_new_class_rows(student, init.labels)
    if request.license:
        student = replace(student, license=request.license)
    data = TrainingData(
        images=images,
        class_indices=selection.class_indices,
        store=store,
        augmentation=config.augmentation,
        seed=config.seed,
        size=require_square(student.model.img_size, "training"),
        selected=validation_source.split.training if validation_source.split else None,
    )
    keeps_all_classes = selection.kept_outputs is None
    result_labels = student.labels if keeps_all_classes else selection.kept_labels
    validation = validation_source.read(images, student.preprocess, result_labels)
    return TrainingInputs(init, student, data, selection, validation, result_labels)


def make_task(request: TrainingRequest, inputs: TrainingInputs) -> TrainingTask:
    """Make the training task of a request.

    Args:
        request: The request.
        inputs: The open inputs of the request.

    Returns:
        The task. For quantization-aware training, its network simulates quantization.

    Raises:
        TinyViTError: Quantization-aware training is impossible with these inputs.
    """
    task = TrainingTask(
        folder=request.output,
        student=inputs.student,
        data=inputs.data,
        validation=inputs.validation,
        labels=inputs.result_labels,
        kept_outputs=inputs.selection.kept_outputs,
        config=request.config,
        workers=choose_worker_count() if request.workers is None else request.workers,
    )
    if request.qat is None:
        return task
    recipe = _open_qat_recipe(request, inputs)
    network = add_fake_quantization(fold_model(inputs.student.model), recipe)
    student = replace(inputs.student, model=network)
    return replace(task, student=student, make_state_dict=make_checkpoint_state, recipe=recipe)


def _open_qat_recipe(request: TrainingRequest, inputs: TrainingInputs) -> Recipe:
    """Read the recipe of quantization-aware training, or calibrate one.

    Raises:
        RequestError: A checkpoint or a store is missing, the student's image size or classes differ
            from the checkpoint's, or the recipe is not one of this checkpoint.
    """
    init, student = inputs.init, inputs.student
    if init is None or inputs.data.store is None:
        raise RequestError(
            "--qat needs a trained checkpoint, and a store of the checkpoint's own predictions",
            "use --init with the checkpoint, and --logits with a store that save-logits made with "
            "this checkpoint as the teacher",
        )
    init_labels = init.labels or numbered_labels(init.num_classes)
    if (init.img_size, init_labels) != (student.model.img_size, student.labels):
        raise RequestError(
            "--qat cannot change the image size or the classes of a network",
            "leave out --img-size, and use --logits with a store that save-logits made with this "
            "checkpoint as the teacher",
        )
    if not request.qat:
        images = read_calibration_set(inputs.data.images.folder, init.preprocess)
        # The network is not equalized: the trained weights become an ordinary checkpoint, which
        # cannot contain what equalization adds to a network.
        return calibrate_recipe(init, fold_model(init.build()), images, request.weight_bits)
    recipe = read_recipe(Path(request.qat))
    if not recipe.is_for(init):
        raise RequestError(
            f"{request.qat} is the recipe of another checkpoint, or of this one at another image "
            "size, with another kind of attention windows, or with another mean or std",
            "use --qat without a file, or with the recipe of an export of the checkpoint in --init "
            "without --img-size, --windows, --mean and --std",
        )
    if recipe.equalization != Equalization():
        raise RequestError(
            f"the recipe {request.qat} equalizes outlier channels of the network, and a network"
            " that was trained with it could not be saved as a checkpoint",
            "use --qat without a file",
        )
    require_points(recipe, fold_model(init.build()), Path(request.qat))
    return recipe
