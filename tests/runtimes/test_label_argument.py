"""The argument `labels` of `Classifier`: lists and dicts of names."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyvit.errors import RequestError
from tinyvit.labels import Label
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.label_argument import resolve_labels

ARTIFACT = Artifact(Path("model.onnx"), None)
CAT_AND_DOG = (Label("cat"), Label("dog"))


class Animal(enum.IntEnum):
    """Class indices with names."""

    CAT = 0
    DOG = 1


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", "dog"],
        ("cat", Label("dog")),
        iter(["cat", "dog"]),
        {0: "cat", 1: "dog"}.values(),
        {1: "dog", 0: "cat"},
        {"1": "dog", "0": Label("cat")},
        {"dog": 1, "cat": 0},
        {Label("dog"): 1, "cat": 0},
        {Animal.DOG: "dog", Animal.CAT: "cat"},
        {"dog": Animal.DOG, "cat": Animal.CAT},
        ["1: dog", "0: cat"],
        ["1 dog", "0 cat"],
        ["- cat", "- dog"],
        np.array(["cat", "dog"]),
        [["1", "dog"], ["0", "cat"]],
        [{"id": 1, "name": "dog"}, {"id": 0, "name": "cat"}],
        {"names": ["cat", "dog"]},
        {"cat": "0", "dog": "1"},
    ],
)
def test_lists_and_dicts_are_accepted(labels: Any) -> None:
    assert resolve_labels(ARTIFACT, 2, labels) == CAT_AND_DOG


@pytest.mark.parametrize(
    "names",
    [
        ["n02123045", " dog "],
        {0: "n02123045", 1: " dog "},
        {"n02123045": 0, " dog ": 1},
        {"0": ["n02123045", "tabby"], "1": "dog"},
        {"n02123045": 0, "dog": 1},
    ],
)
def test_wordnet_ids_get_their_names_as_in_files(names: Any) -> None:
    assert resolve_labels(ARTIFACT, 2, names) == (Label("tabby", "n02123045"), Label("dog"))


def test_keys_and_values_that_can_both_be_indices() -> None:
    expected = (Label("0"), Label("1"))
    assert resolve_labels(ARTIFACT, 2, {"0": 0, "1": 1}) == expected
    for labels in ({"0": 1, "1": 2, "2": 0}, {"0": "1", "1": "2", "2": "0"}):
        with pytest.raises(RequestError, match="both its keys and its values can be indices"):
            resolve_labels(ARTIFACT, 3, labels)
    folders = {"class_to_idx": {"0": 0, "10": 1, "2": 2}}
    assert [label.name for label in resolve_labels(ARTIFACT, 3, folders)] == ["0", "10", "2"]
    mapped = {"idx_to_class": {"0": "1", "1": "2", "2": "0"}}
    assert [label.name for label in resolve_labels(ARTIFACT, 3, mapped)] == ["1", "2", "0"]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({1: "cat", 2: "dog"}, "not 0, 1, 2, .*they are 1 to 2, so either they count from 1"),
        ({0: "cat", 2: "dog"}, "not 0, 1, 2, .*from 0 to 2, and 1 is missing"),
        ({0: "cat", "0": "dog"}, "0 occurs twice"),
        ({"cat": 0, "dog": 0}, "0 occurs twice"),
        ({-1: "cat", 0: "dog"}, "not 0, 1, 2, .*'-1' is no index"),
        ({"cat": "a", "dog": "b"}, "not 0, 1, 2, .*'cat' is no index"),
        ({"n02123046": "cat", "n02123045": "dog"}, "its WordNet ids are not sorted"),
        ({"names": ["cat"], "classes": ["dog"]}, "classes and names contain different labels"),
        ({False: "cat", True: "dog"}, "not 0, 1, 2, .*'False' is no index"),
        ({0: 1, 1: 0}, "the name of class 0 is 1, not a string"),
        (["cat", b"dog"], "the name of class 1 is b'dog', not a string"),
        (["cat", "0: dog"], r"such as line 2 \('0: dog'\), but line 1 does not: 'cat'"),
        (["0 cat", "10 fox", "2 dog"], "sorted as text"),
        (["cat", ""], "the label of class 1 is empty"),
        ({"cat", "dog"}, "labels of type set have no order"),
        (2, "labels of type int have no order"),
        (Path("labels.txt"), "is a path or a string, not a list"),
        ({}, "there are 0 labels, but model.onnx has 2 classes"),
        (["cat"], "there are 1 labels, but model.onnx has 2 classes"),
    ],
)
def test_other_objects_are_refused_with_the_reason(labels: Any, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        resolve_labels(ARTIFACT, 2, labels)
