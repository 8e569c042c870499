"""The argument `labels` of `Classifier`: lists and dicts of names."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

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
    ],
)
def test_lists_and_dicts_are_accepted(labels: Any) -> None:
    assert resolve_labels(ARTIFACT, 2, labels) == CAT_AND_DOG


@pytest.mark.parametrize(
    "names", [["n02123045", " dog "], {0: "n02123045", 1: " dog "}, {"n02123045": 0, " dog ": 1}]
)
def test_names_are_not_changed(names: Any) -> None:
    assert resolve_labels(ARTIFACT, 2, names) == (Label("n02123045"), Label(" dog "))


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (
            {1: "cat", 2: "dog"},
            "from 0 exactly once .*they are 1 to 2, so either they count from 1",
        ),
        ({0: "cat", 2: "dog"}, "from 0 exactly once .*from 0 to 2, and 1 is missing"),
        ({0: "cat", "0": "dog"}, "from 0 exactly once .*0 occurs twice"),
        ({"cat": 0, "dog": 0}, "from 0 exactly once .*0 occurs twice"),
        ({-1: "cat", 0: "dog"}, "from 0 exactly once .*'-1' is none"),
        ({"cat": "a", "dog": "b"}, "from 0 exactly once .*'cat' is none"),
        ({"n02123045": "cat", "n02123046": "dog"}, "from 0 exactly once .*'n02123045' is none"),
        ({"names": ["cat", "dog"]}, "from 0 exactly once .*'names' is none"),
        ({False: "cat", True: "dog"}, "from 0 exactly once .*'False' is none"),
        ({"0": 0, "1": 1}, "both the keys and the values"),
        ({0: 1, 1: 0}, "the label of class 0 is 1, not a name"),
        ({"0": ["n02123045", "cat"], "1": ["n02123046", "dog"]}, "class 0 is .*, not a name"),
        ([["0", "cat"], ["1", "dog"]], "class 0 is .*, not a name"),
        ([{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}], "class 0 is .*, not a name"),
        (["cat", b"dog"], "class 1 is b'dog', not a name"),
        ({"cat", "dog"}, "labels of type set have no order"),
        (2, "labels of type int have no order"),
        (Path("labels.txt"), "is a string, not a list"),
        ({}, "there are 0 labels, but model.onnx has 2 classes"),
        (["cat"], "there are 1 labels, but model.onnx has 2 classes"),
    ],
)
def test_other_objects_are_refused_with_the_reason(labels: Any, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        resolve_labels(ARTIFACT, 2, labels)
