"""Selects the classes that a student has during training, and those that the result keeps.

With a store (saved predictions of a teacher), the student has all classes of the teacher while it
trains. Afterwards, it usually keeps only the classes that have a class folder.
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
        class_indices: Index of each image's class, 0 to `num_classes` - 1, int64 (N,); None if it
            is not known.
        kept_rows: Rows of the classifier that the result keeps; None keeps all.
        kept_labels: Labels of the result.
    """

    labels: tuple[Label, ...] | None
    num_classes: int
    class_indices: npt.NDArray[np.int64] | None
    kept_rows: Sequence[int] | None
    kept_labels: tuple[Label, ...]


def select_classes(
    images: ImageFolder, store: Store | None, classes: str, uses_labels: bool
) -> ClassSelection:
    """Select the classes of a training run.

    Args:
        images: The training images.
        store: Saved teacher outputs; None trains from class labels only.
        classes: Classes of the result with a store: "folders" keeps those with a class folder,
            "teacher" keeps all.
        uses_labels: Whether the loss uses class labels in addition to the teacher outputs.

    Raises:
        RequestError: There is neither a store nor a class folder, or the class folders are not
            classes of the teacher.
    """
    if classes not in ("folders", "teacher"):
        raise RequestError(
            f"--classes {classes} is not possible", "give --classes folders or teacher"
        )
    if store is None:
        if images.labels is None:
            raise RequestError(
                f"{images.folder} has no class folders",
                "give --data a folder with one subfolder per class, or give --logits a store",
            )
        count = len(images.labels)
        return ClassSelection(images.labels, count, images.class_indices, None, images.labels)
    header = store.header
    teacher_labels = header.labels or numbered_labels(header.num_classes)
    if classes == "teacher" or images.labels is None or images.class_indices is None:
        indices = _match_teacher_classes(images, teacher_labels, store) if uses_labels else None
        return ClassSelection(header.labels, header.num_classes, indices, None, teacher_labels)
    indices = _match_teacher_classes(images, teacher_labels, store)
    # class_indices numbers the class folders; indices numbers the classes of the teacher. The first
    # image of each folder shows which row of the classifier belongs to it.
    first_images = [
        int(np.argmax(images.class_indices == folder)) for folder in range(len(images.labels))
    ]
    kept_rows = [int(indices[image]) for image in first_images]
    keeps_all = kept_rows == list(range(header.num_classes))
    return ClassSelection(
        header.labels,
        header.num_classes,
        indices,
        None if keeps_all else kept_rows,
        tuple(teacher_labels[row] for row in kept_rows),
    )


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
            "name the class folders by WordNet id or label, use a teacher with these classes, or "
            "leave out --logits",
        ) from error
