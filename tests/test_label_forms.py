"""Label files as people have them are read by their keys, or refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tinyvit.errors import RequestError
from tinyvit.labels import read_labels

ABC = ["ant", "bee", "cow"]


def read_names(folder: Path, name: str, content: object) -> list[str]:
    """Write a label file, as JSON if the content is no text, and return the names in it."""
    if name.endswith(".yaml"):
        pytest.importorskip("yaml")
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")
    return [label.name for label in read_labels(folder / name)]


@pytest.mark.parametrize(
    "text",
    [
        "-ant\n-bee\n-cow\n",
        "> ant\n> bee\n> cow\n",
        "* ant\n* bee\n* cow\n",
        "\u2013 ant\n\u2013 bee\n\u2013 cow\n",
        "`ant`\n`bee`\n`cow`\n",
        "**ant**\n**bee**\n**cow**\n",
        "- **ant**\n- **bee**\n- **cow**\n",
        "- [ ] ant\n- [x] bee\n- [ ] cow\n",
        "\u201cant\u201d\n\u201ebee\u201c\n\u00abcow\u00bb\n",
        "\u2018ant\u2019\n\u201abee\u2018\n\u2039cow\u203a\n",
        "u'ant',\nu'bee',\nu'cow'\n",
        "b'ant'\nb'bee'\nb'cow'\n",
        "ant,\nbee,\ncow,\n",
        "ant;\nbee;\ncow\n",
        '- 2: "cow"\n- 0: "ant"\n- 1: "bee"\n',
        "[2] cow\n[0] ant\n[1] bee\n",
        "\u200bant\nbee\u00a0\n\ufeffcow\n",
    ],
)
def test_signs_around_all_names_are_removed(tmp_path: Path, text: str) -> None:
    assert read_names(tmp_path, "a.txt", text) == ABC


@pytest.mark.parametrize(
    "names",
    [
        ["-10", "-5", "0"],
        ["+1", "-1", "100"],
        ["don't", "'s-Hertogenbosch", '5" disk'],
        ["Blade Runner: 2049", "Dune"],
        ["1,3-butadiene", "benzene"],
        ["C #", "F # major"],
    ],
)
def test_signs_that_are_parts_of_names_are_kept(tmp_path: Path, names: list[str]) -> None:
    assert read_names(tmp_path, "a.txt", "\n".join(names)) == names


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cow\nant\nbee\n2: dog\n", r"such as line 4 \('2: dog'\), but line 1 does not: 'cow'"),
        ("0: ant\n1: bee\ncow\ndog\n", r"2 of its 4 lines .*'0: ant'\), but line 3 .*: 'cow'"),
        ("cow: 2\nant\nbee\ndog\n", r"such as line 1 \('cow: 2'\), but line 2 does not: 'ant'"),
        ("cow\nn02123045 tabby\nbee\nant\n", r"line 2 \('n02123045 tabby'\), but line 1"),
        ("\u201cant\u201d\nbee\n", "line 1 is in quotes and line 2 is not"),
        ("\u201cant\nbee\n", "line 1 has a quote at one end only"),
        ("`ant\n`bee\n", "line 1 has a quote at one end only"),
        ("ant,\nbee\ncow,\n", "line 1 ends with ',' and line 2 does not"),
        ("-ant\nbee\n", "line 2 does not begin with a bullet"),
        ("0 ant\n1 bee\n10 x\n11 y\n2 c\n3 d\n4 e\n5 f\n6 g\n7 h\n8 i\n9 j\n", "sorted as text"),
        ("2\n0\n1\n", "each line contains one number"),
        ("cow [2]\nant [0]\nbee [1]\n", "each line contains one number"),
        ("0   2  cow\n1   0  ant\n2   1  bee\n", "begin with two numbers"),
        ("ant, bee, cow\n", "only line has several commas"),
        ("3\nant\nbee\ncow\n", r"line 1 \(3\) is the number of the other lines"),
        ("// labels\nant\nbee\n", "line 1 begins with //"),
        ("% labels\nant\nbee\n", "line 1 begins with %"),
        ("ant # insect\nbee # insect\n", "lines end with comments"),
        ("???\nant\nbee\n", "line 1 contains no letter or digit"),
    ],
)
def test_ambiguous_lines_are_refused_by_number(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        read_names(tmp_path, "a.txt", text)


@pytest.mark.parametrize(
    "data",
    [
        ["2 cow", "0 ant", "1 bee"],
        ["2: cow", "0: ant", "1: bee"],
        [{"id": "2", "name": "cow"}, {"id": "0", "name": "ant"}, {"id": "1", "name": "bee"}],
        [
            {"classId": 2, "name": "cow"},
            {"classId": 0, "name": "ant"},
            {"classId": 1, "name": "bee"},
        ],
        [{"pos": 2, "name": "cow"}, {"pos": 0, "name": "ant"}, {"pos": 1, "name": "bee"}],
        [{"id": 2.0, "name": "cow"}, {"id": 0.0, "name": "ant"}, {"id": 1.0, "name": "bee"}],
        [{"name": "2 cow"}, {"name": "0 ant"}, {"name": "1 bee"}],
        {"cow": "2", "ant": "0", "bee": "1"},
        {"class_indices": {"cow": 2, "ant": 0, "bee": 1}},
        {"idxToClass": {"2": "cow", "0": "ant", "1": "bee"}},
        {"vocab": ABC},
        {"meta": {"CLASSES": ABC}},
        {"metainfo": {"classes": ABC}, "data_list": []},
        {"features": {"image": {"_type": "Image"}, "label": {"names": ABC}}},
        {"class_names": {"desc": None, "value": ABC}, "lr": {"desc": None, "value": 0.1}},
        {"categories": [{"id": i, "name": name, "color": [1]} for i, name in enumerate(ABC)]},
    ],
)
def test_json_is_read_by_its_keys(tmp_path: Path, data: object) -> None:
    assert read_names(tmp_path, "a.json", data) == ABC


NUMBERS_AS_TEXT = ["0", "1", "10", "2", "3", "4", "5", "6", "7", "8", "9"]


def test_the_key_of_a_map_tells_its_direction(tmp_path: Path) -> None:
    indices = {name: index for index, name in enumerate(NUMBERS_AS_TEXT)}
    assert read_names(tmp_path, "a.json", {"class_to_idx": indices}) == NUMBERS_AS_TEXT
    reversed_order = ["0", "1", "3", "4", "5", "6", "7", "8", "9", "10", "2"]
    assert read_names(tmp_path, "b.json", {"idx_to_class": indices}) == reversed_order
    with pytest.raises(RequestError, match="both its keys and its values can be indices"):
        read_names(tmp_path, "c.json", indices)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([{"id": 1, "name": "ant"}, {"id": 2, "name": "bee"}], "count from 1"),
        ([{"id": 1, "name": "cow"}, {"name": "ant"}], "entry 2 does not have .* as 'id'"),
        ([{"count": 20, "name": "cow"}, {"count": 7, "name": "ant"}], "0 is missing"),
        (
            [{"id": 7, "index": 1, "name": "a"}, {"id": 9, "index": 0, "name": "b"}],
            "id and index state different indices",
        ),
        ([{"id": 0}, {"id": 1}], "its entries have no name: 'id' are their keys"),
        ({"label": {"names": ["a"]}, "coarse_label": {"names": ["b"]}}, "different labels"),
        ([{f"k{i}": 1} for i in range(200)], "more than 100 different keys"),
        ({"classes": ["a"], "CLASSES": ["b"]}, "classes and CLASSES contain different labels"),
        (["2", "0", "1"], "each line contains one number"),
        ({"0": {"name": "ant"}}, "the name of class 0 is {'name': 'ant'}, not a string"),
    ],
)
def test_ambiguous_json_is_refused(tmp_path: Path, data: object, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        read_names(tmp_path, "a.json", data)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "ClassId,SignName\n2,cow\n0,ant\n1,bee\n"),
        ("a.csv", "id,name,\n2,cow,\n0,ant,\n1,bee,\n,,\n"),
        ("a.csv", "id,name,count\n2,cow,5\n0,ant,6\n1,bee,7\n"),
        ("a.csv", "class_index,class,height,scale by\n2,cow,9,1\n0,ant,9,1\n1,bee,9,1\n"),
        ("a.yaml", "nc: 3\nnames: ['ant', 'bee',\n        'cow']\nroboflow:\n  version: 1\n"),
        ("a.yaml", "names: [ 'ant',\n         'bee', cow ]  # names\ntrain: x\n"),
        ("a.yaml", "names: [\n  'ant', # insect\n  'bee',\n  'cow',\n]\n"),
        ("a.yaml", "names: {2: cow, 0: ant, 1: bee}\n"),
        ("a.yaml", "names:\n  0: ant\n  1: 'bee'\n  2: \"cow\"\n"),
        ("a.yaml", "- ant\n- 'bee'\n- \"cow\"\n"),
        ("a.yaml", "class_to_idx:\n  cow: 2\n  ant: 0\n  bee: 1\n"),
        ("a.yaml", "lr: 0.1\nclasses: 3\nclass_names:\n- ant\n- bee\n- cow\nseed: 1\n"),
        (
            "a.yaml",
            "features:\n- name: label\n  dtype:\n    class_label:\n      names:\n"
            "        '2': cow\n        '0': ant\n        '1': bee\n  splits:\n  - name: train\n",
        ),
    ],
)
def test_tables_and_yaml_are_read_by_their_keys(tmp_path: Path, name: str, text: str) -> None:
    assert read_names(tmp_path, name, text) == ABC


def test_comments_of_yaml_begin_outside_quotes(tmp_path: Path) -> None:
    text = "names:  # all\n- \"C #\"\n- 'a # b'  # a comment\n- c#  # another\n- don't\n- it''s\n"
    assert read_names(tmp_path, "a.yaml", text) == ["C #", "a # b", "c#", "don't", "it''s"]
    assert read_names(tmp_path, "b.yaml", "names: [don't, \"a, b\", 'it''s']") == [
        "don't",
        "a, b",
        "it's",
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        # The second line continues the name in the first one.
        ("names:\n  - ant\n    - bee\n", ["ant - bee"]),
        # Weights & Biases stores every setting in such a map.
        ("class_names:\n  desc: null\n  value:\n  - ant\n", ["ant"]),
        ("names: !!python/tuple [no, 1e3, ~, null, 0x1F]\n", ["no", "1e3", "~", "null", "0x1F"]),
        ('names:\n- >-\n  ant\n  lion\n- "\\u0062ee"\n', ["ant lion", "bee"]),
        ("- {id: 1, name: bee}\n- {id: 0, name: ant}\n", ["ant", "bee"]),
        ("id2label: {0: '7', 1: '5'}\n", ["7", "5"]),
    ],
)
def test_names_are_what_yaml_says(tmp_path: Path, text: str, names: list[str]) -> None:
    assert read_names(tmp_path, "a.yaml", text) == names


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("names:\n  0: ant\n  0: bee\n", "0 occurs twice"),
        ("names:\n- ant\n- {a: b}\n", "the name of class 1 is"),
        ("names: data/names.txt\n", "no list of names"),
        ("names:\n- ant\n-\n", "no labels, or an empty one"),
        ("names: &a [ant]\n", "line 1 has an anchor"),
        ("names: [ant\n", "it is not YAML: .* in line 2"),
        ("- " * 40 + "ant\n", "nested deeper than 32 levels"),
        ("names: [ant]\n---\nnames: [bee]\n", "several documents"),
    ],
)
def test_other_yaml_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        read_names(tmp_path, "a.yaml", text)


NAMES_BY_ID = {"0": "crane", "1": "bee", "2": "crane"}


@pytest.mark.parametrize(
    "data",
    [
        {"id2label": NAMES_BY_ID, "label2id": {"bee": 1, "crane": 2}},
        {"id2label": NAMES_BY_ID, "label2id": {"LABEL_0": 0, "LABEL_1": 1}},
        {"id2label": NAMES_BY_ID, "label2id": NAMES_BY_ID},
        {"id2label": NAMES_BY_ID, "label2id": None, "num_labels": 3},
    ],
)
def test_an_incomplete_inverse_map_is_accepted(tmp_path: Path, data: object) -> None:
    assert read_names(tmp_path, "a.json", data) == ["crane", "bee", "crane"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            "a.json",
            {"id2label": {"0": "ant", "1": "bee"}, "label2id": {"bee": 0, "ant": 1}},
            "id2label and label2id contradict each other: class 0 is 'ant' in the former and 'bee'",
        ),
        (
            "a.json",
            {"idx_to_class": {"0": "ant", "1": "bee"}, "class_to_idx": {"ant": 0, "cow": 2}},
            "class 2 is no class in the former and 'cow'",
        ),
        (
            "a.json",
            {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"ant": 0, "bee": 1}},
            "class 0 is 'LABEL_0' in the former and 'ant'",
        ),
        ("a.json", {"model": {"names": ABC, "num_classes": 4}}, r"model\.names has 3 labels, but"),
        (
            "a.yaml",
            "id2label: {0: ant, 1: bee}\nlabel2id: {ant: 1, bee: 0}\n",
            "contradict each other: class 1 is 'bee' in the former and 'ant'",
        ),
        ("a.yaml", "nc: 4\nnames: [ant, bee, cow]\n", "names has 3 labels, but nc is 4"),
        ("a.yaml", "data:\n  nc: 1\n  names:\n    0: ant\n    1: bee\n", "2 labels, but nc is 1"),
    ],
)
def test_labels_that_contradict_what_is_beside_them_are_refused(
    tmp_path: Path, name: str, content: object, reason: str
) -> None:
    with pytest.raises(RequestError, match=reason):
        read_names(tmp_path, name, content)


@pytest.mark.parametrize(
    "text",
    [
        "nc: 3\nnames: [ant, bee, cow]\n",
        "id2label: {0: ant, 2: cow, 1: bee}\nlabel2id: {bee: 1, cow: 2, ant: 0}\n",
    ],
)
def test_labels_that_agree_with_what_is_beside_them_are_read(tmp_path: Path, text: str) -> None:
    assert read_names(tmp_path, "a.yaml", text) == ABC


def test_predictions_are_no_labels(tmp_path: Path) -> None:
    """Predictions are sorted by their scores, so the names are in another order."""
    predictions = [{"label": "bee", "score": 0.9}, {"label": "ant", "score": 0.1}]
    with pytest.raises(RequestError, match="it has the score of each class but no index"):
        read_names(tmp_path, "a.json", predictions)
    indexed = [{**prediction, "id": 1 - i} for i, prediction in enumerate(predictions)]
    assert read_names(tmp_path, "a.json", indexed) == ["ant", "bee"]
