"""Interprets the argument `labels` of `Classifier`, and chooses the labels of an opened file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from tinyvit.errors import ArtifactError, RequestError
from tinyvit.labels import Label, imagenet_labels, numbered_labels, order_names
from tinyvit.runtimes.artifact import Artifact

LabelArgument: TypeAlias = "Iterable[str | Label] | Mapping[Any, Any]"
"""Labels or their names in the order of the classes; or a dict from class index to name, or from
name to class index."""


def resolve_labels(
    artifact: Artifact, class_count: int, labels: LabelArgument | None
) -> tuple[Label, ...]:
    """Choose the labels of an opened file.

    Args:
        artifact: The file.
        class_count: Number of its classes.
        labels: Labels that the caller passed; None for none.

    Returns:
        One label for each class: the caller's, or else the manifest's, or else ImageNet's, or else
        numbers.

    Raises:
        RequestError: If the caller's labels are not one for each class, or their order is unknown.
        ArtifactError: If the manifest's labels are not one for each class.
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
            f"labels={os.fspath(labels)!r} is a string, not a list of names",
            "read the file first: tinyvit.labels.read_labels(Path(...))",
        )
    if isinstance(labels, Mapping):
        labels = _order_names(labels)
    if isinstance(labels, (set, frozenset)) or not isinstance(labels, Iterable):
        raise RequestError(
            f"labels of type {type(labels).__name__} have no order",
            "pass a list of names in the order of the classes",
        )
    converted = []
    for index, label in enumerate(labels):
        if not isinstance(label, (str, Label)):
            raise RequestError(
                f"the label of class {index} is {label!r}, not a name",
                "pass a list of strings in the order of the classes",
            )
        converted.append(Label(str(label)) if isinstance(label, str) else label)
    return tuple(converted)


def _order_names(labels: Mapping[Any, Any]) -> list[Any]:
    """Return the names in a dict from class index to name, or from name to class index."""
    remedy = "pass {0: name, 1: name, ...}, {name: 0, name: 1, ...}, or a list of names"
    try:
        names = order_names(labels)
    except ValueError as error:
        raise RequestError(
            f"the dict of labels does not have each class index from 0 exactly once ({error})",
            remedy,
        ) from error
    is_by_name = all(isinstance(index, int) for index in labels.values())
    if names and is_by_name and all(isinstance(name, str) and _is_number(name) for name in names):
        raise RequestError(
            "both the keys and the values of the dict of labels can be class indices", remedy
        )
    return names


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()
