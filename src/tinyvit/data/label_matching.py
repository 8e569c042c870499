"""Matching class names in the data to the labels of a model.

A name that matches no class, or more than one, is an error or is left out. No class is guessed,
because the only sign of a wrong guess would be a low accuracy.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from tinyvit.data.composed_names import compose_name
from tinyvit.errors import RequestError
from tinyvit.labels import Label, describe_label, imagenet_labels

_CLASS_NUMBER = re.compile(r"#?(\d{1,9})")
_NUMBER = re.compile(r"\d{1,9}")

_SHOWN_NAMES = 3
"""Largest number of names that an error message lists before "..."."""


class LabelMatcher:
    """Finds which of a model's classes a name in the data stands for.

    A name such as "#7" is always a class number (rule 3). For every other name, the first of these
    rules that applies decides. If that rule leads to more than one class, the name matches none.

    1. The name equals the WordNet id or the label of a class.
    2. The name equals a label if upper and lower case are not distinguished, and "_", "-" and
       repeated spaces each count as one space.
    3. The name is a class number such as "7" or "#7". If the labels have WordNet ids, the number is
       that of an ImageNet-1k class, otherwise it is the index of the class in the model.

    With `exact=True` only rule 1 applies, to every name.

    Letters with accents are the same however Unicode composes them: macOS stores the names of files
    in another form than most editors write.
    """

    def __init__(self, labels: Sequence[Label], *, exact: bool = False) -> None:
        """Index the labels of a model.

        Args:
            labels: The labels of the model, in the order of its logits.
            exact: Whether a name must equal a WordNet id or a label. Training, calibration and
                validation (`tinyvit.quant.images.validation_data`) require this, because the name
                "7" does not show whether the classes are numbered from 0 or from 1. The accuracy
                benchmark also accepts numbers, which start at 0.
        """
        self._labels = tuple(labels)
        self._exact = exact
        self._wnid_indices = _group_indices(label.wnid for label in self._labels)
        self._exact_indices = _group_indices(
            (label.wnid for label in self._labels),
            (compose_name(label.name) for label in self._labels),
        )
        self._normalized_indices = _group_indices(
            normalize_class_name(label.name) for label in self._labels
        )
        self._numeric_indices = _group_indices(
            str(int(label.name)) if _NUMBER.fullmatch(label.name) else "" for label in self._labels
        )
        self._imagenet = imagenet_labels(1000) or ()
        wnids = [label.wnid for label in self._labels]
        is_imagenet = wnids == [label.wnid for label in self._imagenet]
        # If false, a class number is that of an ImageNet-1k class, which is found by WordNet id.
        self._numbers_are_indices = is_imagenet or not any(wnids)

    def find_index(self, name: str) -> int | None:
        """Return the index of the class that a name in the data stands for.

        Args:
            name: A WordNet id, a label, or a class number.

        Returns:
            The index in the labels, or None if no class or more than one matches.
        """
        is_marked_number = name.startswith("#") and _CLASS_NUMBER.fullmatch(name) is not None
        if is_marked_number and not self._exact:
            return self.find_index_of_number(name)
        if compose_name(name) in self._exact_indices:
            return _get_single_index(self._exact_indices[compose_name(name)])
        if self._exact:
            return None
        normalized = normalize_class_name(name)
        if normalized in self._normalized_indices:
            return _get_single_index(self._normalized_indices[normalized])
        return self.find_index_of_number(name)

    @property
    def class_numbers(self) -> tuple[int, ...]:
        """Return the number by which `find_index` finds each class; -1 for a class without one."""
        if self._numbers_are_indices:
            return tuple(range(len(self._labels)))
        numbers = {label.wnid: number for number, label in enumerate(self._imagenet)}
        return tuple(numbers.get(label.wnid, -1) for label in self._labels)

    def is_number(self, name: str) -> bool:
        """Return whether `find_index` takes a name as a class number.

        Args:
            name: A WordNet id, a label, or a class number.
        """
        if _CLASS_NUMBER.fullmatch(name) is None:
            return False
        return name.startswith("#") or compose_name(name) not in self._exact_indices

    def explain_numbers(self, names: Iterable[str]) -> str | None:
        """Return an explanation if the class numbers seem to start at 1, otherwise None.

        Args:
            names: The names of all classes in the data.
        """
        names = list(names)
        count = len(self._labels if self._numbers_are_indices else self._imagenet)
        if not names or not all(map(self.is_number, names)):
            return None
        numbers = [int(name.removeprefix("#")) for name in names]
        if min(numbers) > 0 and max(numbers) == count:
            return (
                f"the classes in the data are numbered up to {count}, and none is 0, so they seem"
                f" to count from 1; the classes of the model are numbered from 0 to {count - 1}"
            )
        return None

    def find_index_of_number(self, name: str) -> int | None:
        """Return the index of the class that has a class number.

        Args:
            name: A number such as "7" or "#7".

        Returns:
            The index in the labels; None for anything else, and for a number without a class.
        """
        match = _CLASS_NUMBER.fullmatch(name)
        if match is None:
            return None
        number = int(match[1])
        if self._numbers_are_indices:
            return number if number < len(self._labels) else None
        if number >= len(self._imagenet):
            return None
        return _get_single_index(self._wnid_indices.get(self._imagenet[number].wnid, frozenset()))

    def find_index_of_numeric_label(self, name: str) -> int | None:
        """Return the index of the class whose label is a number, such as "7" or "007".

        Args:
            name: The number, such as "7" or "#7".

        Returns:
            The index in the labels; None for anything else, and if not exactly one label is this
            number.
        """
        match = _CLASS_NUMBER.fullmatch(name)
        if match is None:
            return None
        return _get_single_index(self._numeric_indices.get(str(int(match[1])), frozenset()))


def match_class_names(
    names: Sequence[str], labels: Sequence[Label], description: str
) -> dict[str, int]:
    """Match class names, each of which must equal a WordNet id or a label of a model.

    Args:
        names: Names of class folders; a name may occur several times.
        labels: The labels of the model, in the order of its logits.
        description: Description of the things that have these names, such as "class folders in
            photos", for the error message.

    Returns:
        Every name mapped to the index of its class.

    Raises:
        RequestError: A name matches no class, or more than one.
    """
    matcher = LabelMatcher(labels, exact=True)
    indices = {name: matcher.find_index(name) for name in names}
    unknown = sorted(name for name, index in indices.items() if index is None)
    if unknown:
        raise RequestError(
            describe_unmatched(unknown, len(indices), description),
            "name every class folder by its WordNet id or its label, such as"
            f" {example_class_name(labels)}; {list_classes(labels)}",
        )
    return {name: index for name, index in indices.items() if index is not None}


def describe_unmatched(unknown: Sequence[str], count: int, description: str) -> str:
    """Return the clause that names do not match the classes of a model, for an error message.

    Args:
        unknown: The names that do not match.
        count: Number of all names.
        description: Description of the things that have these names, such as "class folders".
    """
    names = shorten_names(unknown)
    if len(unknown) == count > 1:
        return f"none of the {count} {description} matches exactly one class of the model ({names})"
    return (
        f"{len(unknown)} of the {count} {description} do not match exactly one class of the model"
        f" ({names})"
    )


def list_classes(labels: Sequence[Label]) -> str:
    """Return a clause with the first labels and WordNet ids of a model, for an error message."""
    names = [describe_label(label) for label in labels[: _SHOWN_NAMES + 1]]
    verb = "class is" if len(labels) == 1 else "classes are"
    return f"the model's {len(labels)} {verb} {shorten_names(names)}"


def normalize_class_name(name: str) -> str:
    """Return a class name in lower case, with one space instead of "_", "-" or several spaces."""
    return " ".join(compose_name(name).replace("_", " ").replace("-", " ").lower().split())


def shorten_names(names: Sequence[str]) -> str:
    """Join the first names of a list for an error message, with "..." if there are more."""
    return ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")


def example_class_name(labels: Sequence[Label]) -> str:
    """Return a name that matches the first label, for an error message."""
    return labels[0].wnid or labels[0].name


def _group_indices(*columns: Iterable[str]) -> dict[str, frozenset[int]]:
    """Map each name to the indices of the classes that have it.

    Args:
        columns: Names of the classes in the order of the labels; "" for a class without a name. A
            class has the names in all columns.
    """
    groups: dict[str, set[int]] = defaultdict(set)
    for column in columns:
        for index, name in enumerate(column):
            if name:
                groups[name].add(index)
    return {name: frozenset(indices) for name, indices in groups.items()}


def _get_single_index(indices: frozenset[int]) -> int | None:
    """Return the index if there is exactly one, otherwise None."""
    return next(iter(indices)) if len(indices) == 1 else None
