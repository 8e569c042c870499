"""Decides whether numbers in the data are labels of the model or numbers of its classes.

If the labels of a model are numbers themselves, such as "1" to "10" or the folders "0", "1", "10",
"2" sorted as text, then 2 in the data can be the label "2" or the class number 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tinyvit.data.label_matching import LabelMatcher, shorten_names
from tinyvit.errors import RequestError
from tinyvit.labels import Label


class NumberReading(NamedTuple):
    """The classes of the names in the data.

    Attributes:
        indices: Every name mapped to the index of its class in the model's labels, or to None.
        are_labels: Whether numbers such as "#7" from a truth file were read as labels.
        note: A sentence for reports about how the numbers were read; "" if that is clear.
    """

    indices: Mapping[str, int | None]
    are_labels: bool = False
    note: str = ""


def find_class_indices(
    names: Iterable[str], matcher: LabelMatcher, labels: Sequence[Label]
) -> NumberReading:
    """Find the class of each name in the data.

    A name that equals a label stands for the class of the label. All other numbers, and all numbers
    with "#", are read in the same way: as class numbers if not all of them are labels of the model,
    or as labels if not all of them are class numbers. If both readings are possible, they must give
    the same classes.

    Args:
        names: WordNet ids, labels, names of class folders, and numbers such as "#7".
        matcher: The matcher for the labels.
        labels: The labels of the model, in the order of its logits.

    Raises:
        RequestError: Both readings of the numbers, or none of them, are possible, and they give
            different classes.
    """
    indices = {name: matcher.find_index(name) for name in names}
    _refuse_mixed_folders(indices, matcher)
    by_number = {name: index for name, index in indices.items() if matcher.is_number(name)}
    by_label = {name: matcher.find_index_of_numeric_label(name) for name in by_number}
    different_names = (n for n, i in by_label.items() if i is not None and i != by_number[n])
    name = next(different_names, None)
    if name is None:  # The two readings do not contradict each other.
        return NumberReading(indices)
    number = name.removeprefix("#")
    fit_labels = None not in by_label.values()
    fit_numbers = None not in by_number.values()
    if fit_labels and not fit_numbers:
        note = (
            "the numbers in the data were read as labels of the model, not as class numbers:"
            f" {number} is the label of class {by_label[name]}"
        )
        return NumberReading({**indices, **by_label}, are_labels=True, note=note)
    number_label = _describe_class(by_number[name], labels)
    if fit_numbers and not fit_labels:
        note = (
            "the numbers in the data were read as class numbers, not as labels of the model:"
            f" {number} is {number_label}"
        )
        return NumberReading(indices, note=note)
    raise RequestError(
        f"the numbers in the data can be labels of the model or class numbers: {number} can be the"
        f" label {number} of class {by_label[name]}, or {number_label}",
        "write each class exactly as the label of the model; in a truth file, do so below the title"
        " class_name",
    )


def _describe_class(index: int | None, labels: Sequence[Label]) -> str:
    if index is None:
        return "no class"
    return f"class {index}, whose label is {labels[index].name}"


def _refuse_mixed_folders(indices: Mapping[str, int | None], matcher: LabelMatcher) -> None:
    """Raise RequestError if some numbers without "#" are labels and others only class numbers.

    An example is the class folders "0" to "9" if the labels of the model are "1" to "10": "0" can
    only be a class number, but "1" to "9" are labels.
    """
    names = [name for name in indices if name.isdecimal()]
    numbers = [name for name in names if matcher.is_number(name)]
    other_labels = [
        name
        for name in names
        if not matcher.is_number(name) and matcher.find_index_of_number(name) != indices[name]
    ]
    if numbers and other_labels:
        raise RequestError(
            f"some numbers in the data are labels of the model ({shorten_names(other_labels)}), and"
            f" others are not ({shorten_names(numbers)}), so they can be labels or class numbers",
            "name all classes by the labels of the model",
        )
