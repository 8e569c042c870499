"""Interprets the argument `labels` of `Classifier`, and chooses the labels of an artifact."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.labels import Label, imagenet_labels, labels_from_data, numbered_labels
from tinyvit.runtimes.artifact import Artifact

LabelArgument: TypeAlias = "Iterable[str | Label] | Mapping[Any, Any]"
"""Labels or their names in the order of the classes; or a dict from class index to name, or from
name to class index; or another form that `tinyvit.labels.labels_from_data` reads."""

_REMEDY = "pass a list of names in the order of the classes, or a dict {0: name, 1: name, ...}"


def resolve_labels(
    artifact: Artifact, class_count: int, labels: LabelArgument | None
) -> tuple[Label, ...]:
    """Choose the labels of an artifact.

    Args:
        artifact: The artifact.
        class_count: Number of classes of the artifact.
        labels: Labels that the caller passed; None if the caller passed no labels.

    Returns:
        One label for each class. These are the caller's labels; without them, those of the
        manifest; without a manifest, those of ImageNet if they have this number, otherwise
        "class 0", "class 1", and so on.

    Raises:
        RequestError: The caller's labels have another number, no order, or a form that is not
            understood.
        ArtifactError: The manifest's labels have another number.
    """
    if labels is not None:
        used_labels = _convert_labels(labels)
    elif artifact.manifest:
        used_labels = artifact.manifest.labels
    else:
        used_labels = imagenet_labels(class_count) or numbered_labels(class_count)
    if len(used_labels) != class_count:
        cause = (
            f"there are {len(used_labels)} labels, but {artifact.path.name} has"
            f" {class_count} classes"
        )
        if labels is not None:
            raise RequestError(cause, f"pass {class_count} labels")
        raise ArtifactError(cause, "export the file again")
    return used_labels


def _convert_labels(labels: LabelArgument) -> tuple[Label, ...]:
    """Convert the caller's labels; raise RequestError for objects without names or order."""
    if isinstance(labels, (str, os.PathLike)):
        raise RequestError(
            f"labels={os.fspath(labels)!r} is a path or a string, not a list of names",
            "read the file first: tinyvit.labels.read_labels(Path(...))",
        )
    if isinstance(labels, (set, frozenset)) or not isinstance(labels, Iterable):
        raise RequestError(
            f"labels of type {type(labels).__name__} have no order",
            "pass a list of names in the order of the classes",
        )
    try:
        converted = labels_from_data(labels if isinstance(labels, Mapping) else list(labels))
    except ValueError as error:
        raise RequestError(f"the labels are not understood ({error})", _REMEDY) from error
    nameless = next((index for index, label in enumerate(converted) if not label.name), None)
    if nameless is not None:
        raise RequestError(f"the label of class {nameless} is empty", _REMEDY)
    return converted
