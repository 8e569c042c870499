"""Matching the classes of a dataset to the labels of a model, for measuring its accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from tinyvit.data.dataset import Dataset, Sample
from tinyvit.data.label_matching import (
    LabelMatcher,
    describe_unmatched,
    example_class_name,
    list_classes,
)
from tinyvit.data.number_readings import find_class_indices
from tinyvit.errors import RequestError
from tinyvit.labels import Label
from tinyvit.text.plurals import format_count


@dataclass(frozen=True)
class MatchedDataset:
    """The images of a dataset whose correct class is one of a model's classes.

    Attributes:
        samples: The images, in the order of the dataset.
        class_indices: For each image, the indices of its correct classes in the model's labels,
            sorted.
        notes: Sentences for reports: how many images were left out, how many classes have images.
        class_numbers: If the data names all classes by numbers, the number of each class of the
            model, or -1 for a class without a number; otherwise None.
    """

    samples: tuple[Sample, ...]
    class_indices: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]
    class_numbers: tuple[int, ...] | None = None


def match_dataset(
    dataset: Dataset, labels: Sequence[Label], only_known: bool = False
) -> MatchedDataset:
    """Match the classes of a dataset to the labels of a model.

    Args:
        dataset: The labeled images.
        labels: The labels of the model, in the order of its logits.
        only_known: If true, images of classes that the model does not have are left out, and the
            notes say so. If false, such a class is an error.

    Raises:
        RequestError: A class of the data does not match exactly one class of the model (with
            `only_known`: none of the classes does), the numbers of the classes seem to start at 1,
            or it is not clear whether numbers are class numbers or labels of the model.
    """
    matcher = LabelMatcher(labels)
    names = dict.fromkeys(name for sample in dataset.samples for name in sample.classes)
    reading = find_class_indices(names, matcher, labels)
    indices = reading.indices
    is_numbered = not reading.are_labels and all(map(matcher.is_number, indices))
    if is_numbered:
        _refuse_numbers_from_1(indices, matcher)
    _require_matches(indices, labels, only_known)
    # Samples of one class share one tuple, because a data set may have a million samples.
    correct = {
        classes: _find_correct_indices(classes, indices)
        for classes in {sample.classes for sample in dataset.samples}
    }
    samples = tuple(sample for sample in dataset.samples if correct[sample.classes])
    if not samples:
        raise RequestError(
            "no image in the data shows a class of the model",
            f"check that the data and the model have the same classes; {list_classes(labels)}",
        )
    class_indices = tuple(correct[sample.classes] for sample in samples)
    notes = [reading.note] if reading.note else []
    left_out_count = len(dataset.samples) - len(samples)
    if left_out_count > 0:
        notes.append(
            f"left out {format_count(left_out_count, 'image')} of"
            f" {format_count(len(_list_unknown(indices)), 'class', 'classes')} that the model does"
            " not have"
        )
    shown_class_count = len(set(chain.from_iterable(class_indices)))
    if shown_class_count < len(labels):
        notes.append(f"the images show {shown_class_count} of the model's {len(labels)} classes")
    if is_numbered and min(int(name.removeprefix("#")) for name in indices) > 0:
        notes.append(
            "the class numbers in the data, of which none is 0, were read as counted from 0"
        )
    numbers = matcher.class_numbers if is_numbered else None
    return MatchedDataset(samples, class_indices, tuple(notes), numbers)


def _refuse_numbers_from_1(names: Iterable[str], matcher: LabelMatcher) -> None:
    """Raise RequestError if the class numbers in the data seem to start at 1."""
    explanation = matcher.explain_numbers(names)
    if explanation:
        raise RequestError(
            explanation, "subtract 1 from each class, or name the classes by WordNet id or label"
        )


def _require_matches(
    indices: Mapping[str, int | None], labels: Sequence[Label], only_known: bool
) -> None:
    """Raise RequestError for a class that the model does not have, unless `only_known` is true."""
    unknown = _list_unknown(indices)
    if unknown and not only_known:
        remedy = (
            f"name them by WordNet id or by the labels of the model, such as"
            f" {example_class_name(labels)} ({list_classes(labels)})"
        )
        if len(unknown) < len(indices):
            remedy += "; or leave their images out with --only-known-classes"
        raise RequestError(describe_unmatched(unknown, len(indices), "classes in the data"), remedy)


def _list_unknown(indices: Mapping[str, int | None]) -> list[str]:
    """Return the sorted names of the classes that the model does not have."""
    return sorted(name for name, index in indices.items() if index is None)


def _find_correct_indices(
    classes: tuple[str, ...], indices: Mapping[str, int | None]
) -> tuple[int, ...]:
    """Return the sorted indices of an image's correct classes in the model's labels.

    Classes that the model does not have (None in `indices`) are left out.
    """
    matches = {indices[name] for name in classes}
    return tuple(sorted(index for index in matches if index is not None))
