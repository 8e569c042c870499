"""A class name matches exactly one class of the model, or none."""

from __future__ import annotations

import pytest

from tinyvit.data.label_matching import LabelMatcher, match_class_names
from tinyvit.errors import RequestError
from tinyvit.labels import Label, imagenet_labels

IMAGENET = imagenet_labels(1000) or ()
PETS = (Label("Gold-Fish"), Label("cat"))
CRANES = (Label("goldfish", "n01443537"), Label("crane", "n02012849"), Label("crane", "n03126707"))


@pytest.mark.parametrize(
    ("labels", "name", "index"),
    [
        (IMAGENET, "n01443537", 1),
        (IMAGENET, "goldfish", 1),
        (IMAGENET, "#1", 1),
        (IMAGENET, "1", 1),
        (IMAGENET, "tiger_cat", 282),
        # In a model of other classes a number is still that of an ImageNet class.
        ((Label("pizza", "n07873807"), Label("gold fish", "n01443537")), "#1", 1),
        (PETS, "gold_fish", 0),
        (PETS, "#1", 1),
        ((Label("1"), Label("0")), "0", 1),  # a label that is a number is a name first
        ((Label("1"), Label("0")), "#0", 0),
        (CRANES, "n03126707", 2),
    ],
)
def test_names_that_match_one_class(labels: tuple[Label, ...], name: str, index: int) -> None:
    assert LabelMatcher(labels).find_index(name) == index


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        (IMAGENET, "goldfisch"),
        (IMAGENET, "1000"),
        (IMAGENET, "#1000"),
        (IMAGENET, ""),
        (IMAGENET, "#"),
        (IMAGENET, "9" * 5000),
        (IMAGENET, "²"),
        (PETS, "2"),
        (PETS, "-"),
        (CRANES, "crane"),
        (CRANES, "CRANE"),
        ((Label("Crane"), Label("crane")), "CRANE"),
        ((Label("1"), Label("1")), "1"),
        ((Label("a", "n00000001"), Label("n00000001")), "n00000001"),
    ],
)
def test_names_that_match_nothing_or_several_classes(labels: tuple[Label, ...], name: str) -> None:
    assert LabelMatcher(labels).find_index(name) is None


def test_exact_matching_accepts_exact_names_only() -> None:
    matcher = LabelMatcher(IMAGENET, exact=True)
    assert [matcher.find_index(name) for name in ("n01443537", "goldfish", "tiger cat")] == [
        1,
        1,
        282,
    ]
    for name in ("tiger_cat", "Goldfish", "1", "#1"):
        assert matcher.find_index(name) is None
    assert LabelMatcher((Label("#1"), Label("2")), exact=True).find_index("#1") == 0


def test_class_names_are_matched_exactly_or_refused() -> None:
    assert match_class_names(["goldfish", "n03126707", "goldfish"], CRANES, "class folders") == {
        "goldfish": 0,
        "n03126707": 2,
    }
    with pytest.raises(
        RequestError,
        match=r"1 of the 2 class folders in x do not match exactly one class of the model"
        r" \(crane\).*the classes of the model are n01443537 \(goldfish\), ",
    ):
        match_class_names(["goldfish", "crane", "crane"], CRANES, "class folders in x")
    with pytest.raises(
        RequestError, match=r"4 of the 4 folders .*\(a, b, c, \.\.\.\).*model are cat$"
    ):
        match_class_names(list("abcd"), (Label("cat"),), "folders")


@pytest.mark.parametrize(
    ("label", "name", "index"),
    [("7", "#7", 1), ("007", "7", 1), ("8", "7", None), ("7", "cat", None), ("cat", "#7", None)],
)
def test_numbers_that_are_labels(label: str, name: str, index: int | None) -> None:
    matcher = LabelMatcher((Label("1"), Label(label)))
    assert matcher.find_index_of_numeric_label(name) == index
