"""Which classes a student is trained on, and which the finished model keeps."""

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
    """The classes of a run.

    Attributes:
        labels: Labels of the classifier while it trains; None if they are not known.
        num_classes: Number of its rows.
        class_indices: Class of each image among them, int64 (N,); None if it is not known.
        kept_rows: Rows that the finished model keeps; None keeps all.
        kept_labels: Labels of the finished model.
    """

    labels: tuple[Label, ...] | None
    num_classes: int
    class_indices: npt.NDArray[np.int64] | None
    kept_rows: Sequence[int] | None
    kept_labels: tuple[Label, ...]


def select_classes(
    images: ImageFolder, store: Store | None, classes: str, uses_labels: bool
) -> ClassSelection:
    """Select the classes of a run.

    Args:
        images: The images to train on.
        store: Stored teacher outputs; None trains from labels alone.
        classes: "folders" for a model of the class folders, "teacher" for all of the teacher's
            classes.
        uses_labels: Whether the loss uses labels beside the teacher's outputs.

    Raises:
        RequestError: There is nothing to learn from, or the class folders are not classes of the
            teacher.
    """
    if classes not in ("folders", "teacher"):
        raise RequestError(
            f"--classes {classes} is not possible", "give --classes folders or teacher"
        )
    if store is None:
        if images.labels is None:
            raise RequestError(
                f"{images.folder} has no class folders",
                "give a folder with one subfolder per class, or --logits a store",
            )
        count = len(images.labels)
        return ClassSelection(images.labels, count, images.class_indices, None, images.labels)
    header = store.header
    teacher_labels = header.labels or numbered_labels(header.num_classes)
    if classes == "teacher" or images.labels is None or images.class_indices is None:
        indices = _match_teacher_classes(images, teacher_labels, store) if uses_labels else None
        return ClassSelection(header.labels, header.num_classes, indices, None, teacher_labels)
    indices = _match_teacher_classes(images, teacher_labels, store)
    first_images = [
        int(np.argmax(images.class_indices == row)) for row in range(len(images.labels))
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
    """Return the class of each image among the teacher's."""
    try:
        return images.class_indices_in(teacher_labels)
    except RequestError as error:
        teachers = ", ".join(teacher.name for teacher in store.header.teachers)
        raise RequestError(
            f"{error.cause}; the model is here the store's teacher, {teachers}",
            "name the class folders by WordNet id or label, use a teacher of these classes, or "
            "leave out --logits",
        ) from error
