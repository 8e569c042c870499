"""The data's names of classes -> a model's indices. What does not match is refused: a guess would only show as a low accuracy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tinyvit.bench.accuracy.datasets import Dataset, Sample
from tinyvit.errors import RequestError
from tinyvit.labels import Label, imagenet_labels


class Matcher:
    """A model's classes by WordNet id, by name, and by name however it is written; only where one class has it."""

    def __init__(self, labels: Sequence[Label]) -> None:
        self._labels = labels
        ways = (
            lambda label: label.wnid,
            lambda label: label.name,
            lambda label: _plain(label.name),
        )
        self._known = [_unique([way(label) for label in labels]) for way in ways]
        thousand = imagenet_labels(1000) or ()
        self._is_imagenet = [label.wnid for label in labels] == [label.wnid for label in thousand]
        self._thousand = thousand

    def index(self, name: str) -> int | None:
        """Of a class by the data's name for it, None where the model does not have it. "#7" is ImageNet's seventh of its 1,000, or the
        model's own where it has no WordNet ids."""
        if name.startswith("#") and name[1:].isdigit():
            return self._by_number(int(name[1:]))
        for known, key in zip(self._known, (name, name, _plain(name))):
            if key in known:
                return known[key]
        return self._by_number(int(name)) if name.isdigit() else None

    def _by_number(self, number: int) -> int | None:
        if self._is_imagenet or not any(label.wnid for label in self._labels):
            return number if number < len(self._labels) else None
        return (
            self._known[0].get(self._thousand[number].wnid)
            if number < len(self._thousand)
            else None
        )


def matched(
    dataset: Dataset, labels: Sequence[Label], only_known: bool = False
) -> tuple[list[Sample], list[tuple[int, ...]], list[str]]:
    """(pictures, the model's indices that are right for each, notes). only_known: leave out pictures of classes that the model does not
    have, and say how many, instead of raising RequestError."""
    matcher = Matcher(labels)
    index = {name: matcher.index(name) for sample in dataset.samples for name in sample.classes}
    unknown = sorted(name for name, found in index.items() if found is None)
    if unknown and not only_known:
        first = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        label = labels[0].wnid or labels[0].name
        remedy = f"name them by WordNet id or by the model's labels, such as {label}; or leave their pictures out with --only-known-classes"
        raise RequestError(
            f"{len(unknown)} of the {len(index)} classes in the data are none of the model's ({first})",
            remedy,
        )
    kept, truths = list[Sample](), list[tuple[int, ...]]()
    for sample in dataset.samples:
        right = tuple(
            sorted({found for name in sample.classes if (found := index[name]) is not None})
        )
        if right:
            kept.append(sample)
            truths.append(right)
    if not kept:
        raise RequestError(
            "no picture in the data shows a class of the model",
            "check that data and model are of the same classes",
        )
    notes = []
    if left := len(dataset.samples) - len(kept):
        notes.append(
            f"{left} pictures of {len(unknown)} classes that the model does not have were left out"
        )
    if (seen := len({each for right in truths for each in right})) < len(labels):
        notes.append(f"the pictures show {seen} of the model's {len(labels)} classes")
    return kept, truths, notes


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").lower().split())


def _unique(names: Sequence[str]) -> dict[str, int]:
    at: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        if name:
            at[name].append(i)
    return {name: indices[0] for name, indices in at.items() if len(indices) == 1}
