"""Matching the class names that data uses to the labels of a model.

A name that matches no class, or more than one, is never guessed: a wrong guess would only show as a
low accuracy.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from tinyvit.errors import RequestError
from tinyvit.labels import Label, imagenet_labels

_CLASS_NUMBER = re.compile(r"#?(\d{1,9})")
_SHOWN_NAMES = 3
"""Names that an error message lists before it says "..."."""


class LabelMatcher:
    """Finds the class index that a name stands for, among the labels of one model.

    A name is accepted in this order, and only where exactly one class has it:

    1. the WordNet id or the label, exactly;
    2. the label in another spelling: case, and "_", "-" or repeated spaces for a space;
    3. a class number such as "7" or "#7": the number of an ImageNet-1k class if the labels have
       WordNet ids, else the index of the class in the model. "#7" is always a number.

    With `exact=True` only rule 1 applies.
    """

    def __init__(self, labels: Sequence[Label], *, exact: bool = False) -> None:
        """Index the labels of a model.

        Args:
            labels: The labels of the model, in the order of its logits.
            exact: Accept only a WordNet id or a label as it is written. Training and calibration
                use this, because a folder named "7" does not say where its numbers begin.
        """
        self._labels = tuple(labels)
        self._exact = exact
        self._wnid_indices = _group_indices(label.wnid for label in self._labels)
        self._exact_indices = _group_indices(
            (label.wnid for label in self._labels), (label.name for label in self._labels)
        )
        self._normalized_indices = _group_indices(
            normalize_class_name(label.name) for label in self._labels
        )
        self._imagenet = imagenet_labels(1000) or ()
        wnids = [label.wnid for label in self._labels]
        is_imagenet = wnids == [label.wnid for label in self._imagenet]
        self._numbers_are_indices = is_imagenet or not any(wnids)

    def index(self, name: str) -> int | None:
        """Return the class index for a name of the data.

        Args:
            name: A WordNet id, a label, or a class number.

        Returns:
            The index in the labels, or None where no class or more than one matches.
        """
        if not self._exact and name.startswith("#") and _CLASS_NUMBER.fullmatch(name):
            return self._index_of_number(name)
        if name in self._exact_indices:
            return _only(self._exact_indices[name])
        if self._exact:
            return None
        normalized = normalize_class_name(name)
        if normalized in self._normalized_indices:
            return _only(self._normalized_indices[normalized])
        return self._index_of_number(name)

    def _index_of_number(self, name: str) -> int | None:
        """Return the class index for "7" or "#7", or None for anything else."""
        match = _CLASS_NUMBER.fullmatch(name)
        if match is None:
            return None
        number = int(match[1])
        if self._numbers_are_indices:
            return number if number < len(self._labels) else None
        if number >= len(self._imagenet):
            return None
        return _only(self._wnid_indices.get(self._imagenet[number].wnid, frozenset()))


def match_class_names(
    names: Sequence[str], labels: Sequence[Label], description: str
) -> dict[str, int]:
    """Match class names to labels exactly, by WordNet id or label, and refuse any other name.

    Args:
        names: Names of class folders. They may repeat.
        labels: The labels of the model, in the order of its logits.
        description: The names in words, for the error, such as "class folders in photos".

    Returns:
        The class index of every name.

    Raises:
        RequestError: A name matches no class, or more than one.
    """
    matcher = LabelMatcher(labels, exact=True)
    indices = {name: matcher.index(name) for name in names}
    unknown = sorted(name for name, index in indices.items() if index is None)
    if unknown:
        raise RequestError(
            f"{len(unknown)} of the {len(indices)} {description} do not match exactly one class"
            f" of the model ({shorten_names(unknown)})",
            "name every class folder by its WordNet id or its label, such as"
            f" {example_class_name(labels)}",
        )
    return {name: index for name, index in indices.items() if index is not None}


def normalize_class_name(name: str) -> str:
    """Return a class name in lower case, with single spaces for "_", "-" and repeated spaces."""
    return " ".join(name.replace("_", " ").replace("-", " ").lower().split())


def shorten_names(names: Sequence[str]) -> str:
    """Return the first names of a list for an error message, with "..." where there are more."""
    return ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")


def example_class_name(labels: Sequence[Label]) -> str:
    """Return a name that matches the first label, for an error message."""
    return labels[0].wnid or labels[0].name


def _group_indices(*columns: Iterable[str]) -> dict[str, frozenset[int]]:
    """Map every name that occurs in the columns to the indices that it occurs at."""
    indices: dict[str, set[int]] = defaultdict(set)
    for column in columns:
        for index, name in enumerate(column):
            if name:
                indices[name].add(index)
    return {name: frozenset(found) for name, found in indices.items()}


def _only(indices: frozenset[int]) -> int | None:
    """Return the index where there is exactly one."""
    return next(iter(indices)) if len(indices) == 1 else None
