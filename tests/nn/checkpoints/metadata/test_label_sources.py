"""Names of classes in a checkpoint come before any assumption, and keys before an order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from tests.helpers.state_dicts import Save, make_state
from tinyvit.labels import Label
from tinyvit.nn.checkpoints.metadata.label_sources import find_labels
from tinyvit.nn.checkpoints.weight_files import read_weights
from tinyvit.nn.checkpoints.weights import Weights

ABC = ["a", "b", "c"]
PATH = Path("mine.pth")


def find(metadata: dict[str, Any], count: int = 3, config: dict[str, Any] | None = None) -> Any:
    """Return the names of the labels (None if unknown) and their source."""
    weights = Weights({}, "", "", metadata, config or {}, ())
    labels, source = find_labels(weights, count, PATH)
    return labels and [label.name for label in labels], source


@pytest.mark.parametrize(
    ("metadata", "source"),
    [
        ({"classes": ABC}, "classes in the checkpoint"),
        ({"class_names": tuple(ABC)}, "class_names in the checkpoint"),
        ({"label_names": ABC}, "label_names in the checkpoint"),
        ({"labels": ABC}, "labels in the checkpoint"),
        ({"class_to_idx": {"c": 2, "a": 0, "b": 1}}, "class_to_idx in the checkpoint"),
        ({"class2idx": {"c": 2, "a": 0, "b": 1}}, "class2idx in the checkpoint"),
        ({"idx2class": {2: "c", 0: "a", 1: "b"}}, "idx2class in the checkpoint"),
        ({"class_map": {2: "c", 0: "a", 1: "b"}}, "class_map in the checkpoint"),
        ({"label2id": {"c": "2", "a": "0", "b": "1"}}, "label2id in the checkpoint"),
        ({"idx_to_class": {2: "c", 0: "a", 1: "b"}}, "idx_to_class in the checkpoint"),
        ({"id2label": {"2": "c", "0": "a", "1": "b"}}, "id2label in the checkpoint"),
        ({"classes": {"c": 2, "a": 0, "b": 1}}, "classes in the checkpoint"),
        ({"class_names": ["2: c", "0: a", "1: b"]}, "class_names in the checkpoint"),
        ({"classes_": ABC}, "classes_ in the checkpoint"),
        ({"label2idx": {"c": 2, "a": 0, "b": 1}}, "label2idx in the checkpoint"),
        ({"class_indices": {"c": 2, "a": 0, "b": 1}}, "class_indices in the checkpoint"),
        ({"meta": {"CLASSES": tuple(ABC)}}, "CLASSES in meta of the checkpoint"),
        ({"classNames": ABC}, "classNames in the checkpoint"),
        ({"idxToClass": {"2": "c", "0": "a", "1": "b"}}, "idxToClass in the checkpoint"),
        (
            {"classes": [{"id": str(i), "name": ABC[i]} for i in (1, 2, 0)]},
            "classes in the checkpoint",
        ),
        ({"names": {0: "a", 1: "b", 2: "c"}}, "names in the checkpoint"),
        ({"classes": [(1, "b"), (2, "c"), (0, "a")]}, "classes in the checkpoint"),
        ({"classes": [["b", 1], ["c", 2], ["a", 0]]}, "classes in the checkpoint"),
        ({"class_names": "a, b, c"}, "class_names in the checkpoint"),
        ({"class_names": "['a', 'b', 'c']"}, "class_names in the checkpoint"),
        ({"class_to_idx": "{'c': 2, 'a': 0, 'b': 1}"}, "class_to_idx in the checkpoint"),
        (
            {
                "categories": [
                    {"id": 1, "name": "b"},
                    {"id": 2, "name": "c"},
                    {"id": 0, "name": "a"},
                ]
            },
            "categories in the checkpoint",
        ),
        (
            {"hyper_parameters": {"class_names": ABC, "lr": 1}},
            "class_names in hyper_parameters of the checkpoint",
        ),
        (
            {"args": {"data": {"classes": ABC}}},
            "classes in args.data of the checkpoint",
        ),
        ({"dataset_meta": {"classes": ABC}}, "classes in dataset_meta of the checkpoint"),
    ],
)
def test_names_are_read_in_every_form(metadata: dict[str, Any], source: str) -> None:
    assert find(metadata) == (ABC, source)


def test_config_json_names_classes() -> None:
    config = {"architecture": "tiny_vit_5m_224", "label_names": ABC}
    assert find({}, config=config) == (ABC, "label_names in config.json")
    assert find({}, config={"id2label": {"0": "a", "1": "b", "2": "c"}}) == (
        ABC,
        "id2label in config.json",
    )


def test_the_checkpoint_comes_before_config_json() -> None:
    names, source = find({"classes": ABC}, config={"label_names": ["x", "y", "z"]})
    assert names == ABC
    assert source == (
        "classes in the checkpoint; not used: label_names in config.json names other classes or"
        " another order"
    )


def test_keys_come_before_an_order() -> None:
    metadata = {"classes": ["c", "b", "a"], "hparams": {"class_to_idx": {"a": 0, "b": 1, "c": 2}}}
    names, source = find(metadata)
    assert names == ABC
    assert source == (
        "class_to_idx in hparams of the checkpoint; not used: classes in the checkpoint names other"
        " classes or another order"
    )


def test_folders_with_numbers_as_names_are_in_the_order_of_their_indices() -> None:
    names, _ = find({"class_to_idx": {"1": 0, "10": 1, "2": 2}})
    assert names == ["1", "10", "2"]


def test_wordnet_ids_get_their_names() -> None:
    weights = Weights({}, "", "", {"classes": ["n01440764", "mine", "n02123045"]}, {}, ())
    labels, _ = find_labels(weights, 3, PATH)
    assert labels == (Label("tench", "n01440764"), Label("mine"), Label("tabby", "n02123045"))
    keras = {"0": ["n01440764", "tench"], "1": ["n09999999", "new"], "2": ["n02123045", "tabby"]}
    labels, _ = find_labels(Weights({}, "", "", {"id2label": keras}, {}, ()), 3, PATH)
    assert labels == (
        Label("tench", "n01440764"),
        Label("new", "n09999999"),
        Label("tabby", "n02123045"),
    )


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"classes": ["a", "b"]}, "classes in the checkpoint has 2 names, and the network has 3"),
        (
            {"class_to_idx": {"a": 1, "b": 2, "c": 3}},
            "class_to_idx in the checkpoint cannot be used (its indices are not 0, 1, 2, ...",
        ),
        (
            {"class_names": {"1": 2, "2": 0, "0": 1}},
            "class_names in the checkpoint cannot be used (both its keys and its values are"
            " numbers)",
        ),
    ],
)
def test_names_that_cannot_be_used_are_reported(metadata: dict[str, Any], reason: str) -> None:
    names, source = find(metadata)
    assert names is None
    assert source.startswith("none in the checkpoint, so the classes are numbered; not used: ")
    assert reason in source


def test_imagenet_is_an_assumption_that_is_stated() -> None:
    names, source = find({}, count=1000)
    assert (names[0], names[999]) == ("tench", "toilet tissue")
    assert source == (
        "assumed: ImageNet-1k, because the network has 1000 classes and mine.pth names none"
        " (--labels for others)"
    )


def test_a_network_with_1000_classes_of_its_own_is_not_imagenet() -> None:
    own = [f"species {i}" for i in range(1000)]
    names, source = find({"class_to_idx": {name: i for i, name in enumerate(own)}}, count=1000)
    assert (names, source) == (own, "class_to_idx in the checkpoint")
    names, source = find({"classes": own[:900]}, count=1000)
    assert names is None
    assert "classes in the checkpoint has 900 names" in source


@pytest.mark.parametrize(
    "metadata",
    [
        {"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}},
        {"labels": [0, 1, 1]},
        {"labels": 3, "classes": 3, "class_names": None},
        {"optimizer": {"labels": ABC}},
        {"names": ["run 1", "run 2"], "vocab": 5},
        {},
    ],
)
def test_entries_without_names_are_ignored(metadata: dict[str, Any]) -> None:
    assert find(metadata) == (None, "none in the checkpoint, so the classes are numbered")


def test_metadata_of_safetensors_is_parsed_json() -> None:
    parsed = json.loads('{"class_to_idx": {"b": 1, "a": 0, "c": 2}}')
    assert find(parsed)[0] == ABC


@pytest.mark.parametrize("key", ["labels", "classes"])
def test_indices_are_no_names(key: str) -> None:
    numbered = (None, "none in the checkpoint, so the classes are numbered")
    assert find({key: list(range(10))}, count=10) == numbered
    assert find({key: [2, 0, 1]}) == numbered


def test_other_whole_numbers_are_names_except_in_labels() -> None:
    assert find({"classes": [12, 7, 5]})[0] == ["12", "7", "5"]
    assert find({"labels": [12, 7, 5]})[0] is None


@pytest.mark.parametrize(
    ("metadata", "name"),
    [
        ({"labels": list(range(1000))}, "labels"),
        ({"args": {"MyClasses": {f"k{i}": [i] for i in range(1000)}}}, "args.MyClasses"),
        ({"encoder": {"class_order": [f"k{i}" for i in range(1000)]}}, "encoder.class_order"),
    ],
)
def test_an_unread_entry_for_each_class_is_noted_and_stops_the_assumption(
    metadata: dict[str, Any], name: str
) -> None:
    assert find(metadata, count=1000) == (
        None,
        "none in the checkpoint, so the classes are numbered; not used:"
        f" {name} in the checkpoint has 1000 entries, which were not understood",
    )


def test_other_entries_do_not_stop_the_assumption() -> None:
    for metadata in (
        {"id2label": {str(i): f"LABEL_{i}" for i in range(1000)}},
        {"label_smoothing": 0.1, "num_classes": 1000, "class_weights": [1.0] * 10},
        {"losses": [0.5] * 1000},
    ):
        assert find(metadata, count=1000)[0][0] == "tench"


@pytest.mark.parametrize("dtype", [object, str])
def test_a_pickled_label_encoder_names_the_classes(
    save: Save, foreign_class: Callable[..., type], dtype: type
) -> None:
    """scikit-learn's LabelEncoder has its classes, sorted, in an array classes_."""
    encoder = foreign_class("mylib.preprocessing._label", "LabelEncoder")()
    encoder.classes_ = np.array(list("abcdefg"), dtype)
    path = save({"state_dict": make_state(), "label_encoder": encoder})
    labels, source = find_labels(read_weights(path), 7, path)
    assert labels == tuple(map(Label, "abcdefg"))
    assert source == "classes_ in label_encoder of the checkpoint"


def test_names_of_folders_in_a_list_stay_in_its_order() -> None:
    """torchvision sorts folders as text, and this is the order of the logits."""
    folders = [f"{name} x" for name in sorted(map(str, range(12)))]
    assert find({"classes": folders}, count=12)[0] == folders


SET_REASON = "cannot be used (it is a set, so the order of the classes is unknown)"


@pytest.mark.parametrize(
    ("entries", "name"),
    [
        ({"classes": set("abcdefg")}, "classes in the checkpoint"),
        ({"class_names": frozenset("abcdefg")}, "class_names in the checkpoint"),
        (
            {"hyper_parameters": {"label_names": set("abcdefg")}},
            "label_names in hyper_parameters of the checkpoint",
        ),
        ({"vocab": set("abcdefg")}, "vocab in the checkpoint"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_set_of_names_has_no_order(
    save: Save, entries: dict[str, Any], name: str, protocol: int
) -> None:
    """The order in which Python stores a set depends on PYTHONHASHSEED."""
    path = save({"state_dict": make_state(), **entries}, pickle_protocol=protocol)
    labels, source = find_labels(read_weights(path), 7, path)
    assert labels is None
    assert source == (
        f"none in the checkpoint, so the classes are numbered; not used: {name} {SET_REASON}"
    )


def test_names_with_an_order_beside_a_set_are_used(save: Save) -> None:
    entries = {"classes": set("abcdefg"), "args": {"class_names": list("gfedcba")}}
    path = save({"state_dict": make_state(), **entries})
    labels, source = find_labels(read_weights(path), 7, path)
    assert labels == tuple(map(Label, "gfedcba"))
    assert source == (
        f"class_names in args of the checkpoint; not used: classes in the checkpoint {SET_REASON}"
    )


@pytest.mark.parametrize("text", ["{'b', 'a', 'c'}", "['a', 'b', ...]"])
def test_a_text_in_an_unknown_notation_is_not_split_at_its_commas(text: str) -> None:
    names, source = find({"classes": text})
    assert names is None
    assert "classes in the checkpoint cannot be used" in source


def test_a_set_of_1000_names_is_not_imagenet(save: Save) -> None:
    path = save({"state_dict": make_state(), "names": {f"k{i}" for i in range(1000)}})
    labels, source = find_labels(read_weights(path), 1000, path)
    assert labels is None
    assert f"names in the checkpoint {SET_REASON}" in source
