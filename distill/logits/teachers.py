"""Opens teachers: networks whose class probabilities a student learns from.

A text on the command line selects a teacher. It has one of these forms:

    tiny_vit_21m.safetensors      a TinyViT checkpoint, which runs in PyTorch
    tinyvit_21m or demo           a released checkpoint, or the packaged demo model, by name
    tinyvit_21m.onnx              an exported artifact, which its engine runs
    timm:convnext_base.fb_in22k   a timm model with its published weights; needs timm
    teacher.py:make_teacher       a function without arguments that returns a PyTorch module; the
                                  file is executed
    package.module:make_teacher   the same in a module that Python can import
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit.data.batching import run_in_batches
from tinyvit.distill.logits import module_teachers
from tinyvit.distill.logits.function_teachers import open_function_teacher
from tinyvit.distill.logits.module_teachers import Pixels, Teacher
from tinyvit.distill.training.device import ComputeDevice
from tinyvit.errors import RequestError
from tinyvit.files.file_io import sha256
from tinyvit.image_sizes import describe_pixels, format_size, require_square
from tinyvit.nn.checkpoints.checkpoint import Checkpoint
from tinyvit.nn.checkpoints.hub import load_released
from tinyvit.nn.checkpoints.loading import is_checkpoint_path, load_checkpoint
from tinyvit.runtimes import open_runtime, read_artifact
from tinyvit.runtimes.artifact import content_sha256
from tinyvit.variants import RELEASED_NAMES

TIMM_PREFIX = "timm:"


def open_teachers(
    names: Sequence[str], size: int | None, device: ComputeDevice
) -> tuple[Teacher, ...]:
    """Open one or several teachers with the same classes.

    Args:
        names: Texts that select the teachers, at least one.
        size: Width and height of the views in pixels; None for the input size of the first teacher.
        device: The device to run PyTorch modules on.

    Raises:
        RequestError: A teacher cannot be opened, two teachers have different classes, or a teacher
            does not accept views of this size.
    """
    teachers = tuple(_open_teacher(name, size, device) for name in names)
    first_teacher = teachers[0]
    for teacher in teachers[1:]:
        has_same_count = teacher.num_classes == first_teacher.num_classes
        if not has_same_count or teacher.labels != first_teacher.labels:
            raise RequestError(
                f"{first_teacher.name} ({first_teacher.num_classes} classes) and {teacher.name} "
                f"({teacher.num_classes} classes) have different classes or class labels",
                "use teachers with the same class labels in the same order",
            )
    view_size = size or require_square(
        first_teacher.preprocess.size, f"the teacher {first_teacher.name}"
    )
    for teacher in teachers:
        if not teacher.accepts_size(view_size):
            raise RequestError(
                f"{teacher.name} runs at {describe_pixels(teacher.preprocess.size)}, not"
                f" {view_size}",
                f"use --img-size {format_size(teacher.preprocess.size)}",
            )
    return teachers


def average_probabilities(teachers: Sequence[Teacher], pixels: Pixels) -> npt.NDArray[np.float64]:
    """Return the mean of the class probabilities that teachers predict.

    Args:
        teachers: Teachers with the same classes, at least one.
        pixels: Views, uint8 (B, S, S, 3).

    Returns:
        Mean probabilities, float64 (B, num_classes).
    """
    predictions = [teacher.predict_probabilities(pixels) for teacher in teachers]
    return np.asarray(np.mean(predictions, axis=0))


def _open_teacher(name: str, size: int | None, device: ComputeDevice) -> Teacher:
    if name.startswith(TIMM_PREFIX):
        return module_teachers.open_timm_teacher(name.removeprefix(TIMM_PREFIX), name, device)
    path = Path(name)
    if is_checkpoint_path(path):
        return _open_checkpoint(load_checkpoint(path), path.name, size, device)
    if name in RELEASED_NAMES and not path.is_file():
        return _open_checkpoint(load_released(name), name, size, device)
    if path.exists():
        return _open_artifact(path)
    if ":" in name:
        return open_function_teacher(name, device)
    raise RequestError(
        f"no teacher is called {name!r}",
        "use a checkpoint, an exported artifact, the name of a released checkpoint, demo, "
        "timm:NAME, or FILE.py:FUNCTION",
    )


def _open_checkpoint(
    checkpoint: Checkpoint, name: str, size: int | None, device: ComputeDevice
) -> Teacher:
    checkpoint = checkpoint.at_size(size or checkpoint.img_size)
    description = module_teachers.ModuleDescription(
        name=name,
        sha256=checkpoint.sha256,
        labels=checkpoint.labels,
        preprocess=checkpoint.preprocess,
        has_fixed_size=True,
    )
    return module_teachers.make_module_teacher(checkpoint.build(), description, device)


def _open_artifact(path: Path) -> Teacher:
    artifact = read_artifact(path)
    manifest = artifact.manifest
    if manifest is None or manifest.embedded_preprocessing != "host":
        raise RequestError(
            f"{path.name} does not take normalized images",
            "use an artifact that tinyvit-export made without --preprocess",
        )
    runtime = open_runtime(artifact)

    def compute_logits(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if manifest.input.layout == "NHWC":
            images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        batch_size = manifest.input.shape[0]
        return run_in_batches(runtime.run, images, batch_size)

    return Teacher(
        name=path.name,
        sha256=content_sha256(path) if path.is_dir() else sha256(path),
        num_classes=len(manifest.labels),
        labels=manifest.labels,
        preprocess=manifest.preprocess,
        compute_logits=compute_logits,
        has_fixed_size=True,
    )
