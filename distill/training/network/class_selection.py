"""Selects the classes that a student has during training, and those that its checkpoint keeps.

With a store (saved predictions of a teacher), the student has all classes of the teacher while it
trains. The checkpoints that training saves, which are called the result here, usually keep only the
classes that have a class folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyvit.data.class_folders import ImageFolder
from tinyvit.distill.logits.store import Store
from tinyvit.errors import RequestError
from tinyvit.labels import Label, numbered_labels


@dataclass(frozen=True)
class ClassSelection:
    """The classes of a training run.

    Attributes:
        labels: Labels of the classes during training; None if they are not known.
        num_classes: Number of classes during training.
        class_indices: Index of each image's class, 0 to `num_classes` - 1, int64 (N,); None if the
            classes of the images are not known or not needed.
        kept_outputs: Indices of the outputs of the classifier that the result keeps; None keeps
            all. During training, the classifier has one output for each class.
        kept_labels: Labels of the classes of the result, in the order of `kept_outputs`.
    """

    labels: tuple[Label, ...] | None
    num_classes: int
    class_indices: npt.NDArray[np.int64] | None
    kept_outputs: Sequence[int] | None
    kept_labels: tuple[Label, ...]


def select_classes(
    images: ImageFolder, store: Store | None, classes: str, uses_labels: bool
) -> ClassSelection:
    """Select the classes of a training run.

    Args:
        images: The training images.
        store: The teacher's saved predictions; None trains from class labels only.
        classes: Classes of the result, if there is a store: "folders" keeps those with a class
            folder, or all if there are no class folders; "teacher" keeps all.
        uses_labels: Whether the loss uses class labels in addition to the teacher's predictions.

    Raises:
        RequestError: `classes` has another value, or is "teacher" without a store; class labels are
            used, but an image is in no class folder; or a class folder is no class of the teacher.
    """
    if classes not in ("folders", "teacher"):
        raise RequestError(
            f"--classes {classes} is not possible",
            "use --classes folders or --classes teacher",
        )
    if store is None and classes == "teacher":
        raise RequestError(
            "--classes teacher was given without --logits",
            "add --logits with a store, or leave out --classes",
        )
    if store is None:
        return _select_folder_classes(images)
    header = store.header
    teacher_labels = header.labels or numbered_labels(header.num_classes)
    if classes == "teacher" or images.class_indices is None:
        class_indices = None
        if uses_labels:
            class_indices = _match_teacher_classes(images, teacher_labels, store)
        return ClassSelection(
            labels=header.labels,
            num_classes=header.num_classes,
            class_indices=class_indices,
            kept_outputs=None,
            kept_labels=teacher_labels,
        )
    teacher_indices = _match_teacher_classes(images, teacher_labels, store)
    kept_outputs = _find_folder_rows(images.class_indices, teacher_indices)
    keeps_all = kept_outputs == list(range(header.num_classes))
    return ClassSelection(
        labels=header.labels,
        num_classes=header.num_classes,
        class_indices=teacher_indices,
        kept_outputs=None if keeps_all else kept_outputs,
        kept_labels=tuple(teacher_labels[row] for row in kept_outputs),
    )


def _select_folder_classes(images: ImageFolder) -> ClassSelection:
    """Select the classes of the class folders, for training without a teacher."""
    try:
        images.require_class_folders()
    except RequestError as error:
        raise RequestError(
            error.cause,
            "use --data with a folder that has one subfolder per class, or use --logits with a "
            "store",
        ) from error
    assert images.labels is not None
    return ClassSelection(
        labels=images.labels,
        num_classes=len(images.labels),
        class_indices=images.class_indices,
        kept_outputs=None,
        kept_labels=images.labels,
    )


def _find_folder_rows(
    folder_indices: npt.NDArray[np.int64], teacher_indices: npt.NDArray[np.int64]
) -> list[int]:
    """Return the row of the teacher's classifier for each class folder, in the folders' order.

    `folder_indices` has the index of every image's class among the class folders, and
    `teacher_indices` among the classes of the teacher. The row for a folder is the teacher index of
    the first image in the folder.
    """
    _, first_images = np.unique(folder_indices, return_index=True)
    return [int(row) for row in teacher_indices[first_images]]


def _match_teacher_classes(
    images: ImageFolder, teacher_labels: tuple[Label, ...], store: Store
) -> npt.NDArray[np.int64]:
    """Return the index of each image's class among those of the teacher."""
    try:
        return images.find_class_indices(teacher_labels)
    except RequestError as error:
        teachers = ", ".join(teacher.name for teacher in store.header.teachers)
        raise RequestError(
            f"{error.cause}; here, the model is the teacher of the store, {teachers}",
            "rename the class folders to WordNet ids or labels of the teacher, use a teacher with "
            "these classes, or leave out --logits",
        ) from error
