"""Labels of ImageNet are built in, and labels in users' files are read."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tinyvit import labels
from tinyvit.errors import RequestError
from tinyvit.labels import Label, label_files


def test_labels_of_imagenet_1k() -> None:
    names = labels.imagenet_labels(1000)
    assert names is not None
    assert len(names) == 1000
    assert names[0] == Label("tench", "n01440764")
    assert names[281] == Label("tabby", "n02123045")
    assert names[967].name == "espresso"
    assert [label.wnid for label in names] == sorted(label.wnid for label in names)


def test_imagenet_22k_agrees_with_the_papers_mapping() -> None:
    """The first, second and last entry of microsoft/Cream, TinyViT/imagenet_1kto22k.txt.

    One class of the 1,000 has no entry there.
    """
    full, thousand = labels.imagenet_labels(21841), labels.imagenet_labels(1000)
    assert full is not None
    assert thousand is not None
    index = {label.wnid: i for i, label in enumerate(full)}
    assert len(full) == 21841
    assert [index[thousand[i].wnid] for i in (0, 1, 999)] == [359, 368, 21815]
    assert [label.name for label in thousand if label.wnid not in index] == ["teddy"]


def test_other_counts_have_no_labels() -> None:
    assert labels.imagenet_labels(10) is None
    assert labels.numbered_labels(2) == (Label("class 0"), Label("class 1"))


def test_a_description_names_the_first_and_the_last_label() -> None:
    assert labels.describe_labels([Label("cat")]) == "1 label, 0: cat"
    imagenet = labels.imagenet_labels(1000)
    assert imagenet is not None
    assert labels.describe_labels(imagenet) == (
        "1000 labels, from 0: tench (n01440764) to 999: toilet tissue (n15075141)"
    )


ANIMALS = (Label("cat"), Label("dog"), Label("a, b"))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "cat\ndog\na, b\n", ANIMALS),
        ("a", "\ufeffcat\r\ndog\r\na, b", ANIMALS),
        ("a.txt", "n02123045\n2 dogs\n", (Label("tabby", "n02123045"), Label("2 dogs"))),
        ("a.csv", 'cat\ndog\n"a, b"\n', ANIMALS),
        ("a.csv", 'label\ncat\ndog\n"a, b"\n', ANIMALS),
        ("a.csv", '0,cat\n1,dog\n2,"a, b"\n', ANIMALS),
        ("a.csv", 'Index, Name\n2,"a, b"\n0,cat\n1,dog\n', ANIMALS),
        ("a.csv", ',class_name\n0,cat\n1,dog\n2,"a, b"\n', ANIMALS),
        (
            "a.tsv",
            "n02123045\tmy cat\nn00000000\tmine\n",
            (Label("my cat", "n02123045"), Label("mine", "n00000000")),
        ),
        ("a.tsv", "wnid\tname\nn02123045\tmy cat\n", (Label("my cat", "n02123045"),)),
        ("a.json", '["cat", "dog", "a, b"]', ANIMALS),
        ("a.json", '{"1": "dog", "0": "cat", "2": "a, b"}', ANIMALS),
        ("a.json", '{"dog": 1, "cat": 0, "a, b": 2}', ANIMALS),
        ("a.json", '{"1": 0, "0": 1}', (Label("1"), Label("0"))),
        (
            "a.json",
            '{"model_type": "x", "id2label": {"1": "dog", "0": "cat", "2": "a, b"},'
            ' "label2id": {"cat": 0}}',
            ANIMALS,
        ),
        (
            "a.json",
            json.dumps({str(i): f"c{i}" for i in reversed(range(12))}),
            tuple(Label(f"c{i}") for i in range(12)),
        ),
    ],
)
def test_label_files_are_read(
    tmp_path: Path, name: str, text: str, expected: tuple[Label, ...]
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert labels.read_labels(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", b"", "no labels"),
        ("a.csv", b"", "no labels"),
        ("a.json", b"[]", "no labels"),
        ("a.txt", b"a\n\nb\n", "an empty one"),
        ("a.txt", b"\xff\xfe\x00x", "utf-8"),
        ("a.json", b"{", "Expecting"),
        ("a.json", b"[" * 100_000, "recursion"),
        ("a.json", b'{"1": "x"}', "not 0, 1, 2"),
        ("a.json", b'{"x": 1, "y": 2}', "not 0, 1, 2"),
        ("a.json", b'{"x": 0, "y": 0}', "occurs twice"),
        ("a.json", b'{"0": "x", "0": "y"}', "occurs twice"),
        ("a.json", b'{"x": true}', "not 0, 1, 2"),
        ("a.json", b'"cat"', "neither a list"),
        ("a.csv", b"a,b,c\n", "one column"),
        ("a.csv", b"0,cat\ndog\n", "one column"),
        ("a.csv", b"1,cat\n2,dog\n", "not 0, 1, 2"),
        ("a.csv", b"0,cat\n0,dog\n", "occurs twice"),
        ("a.csv", b"n02123045,cat\nw2,dog\n", "not 0, 1, 2"),
    ],
)
def test_unknown_formats_are_refused_with_the_known_ones(
    tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RequestError, match=reason) as caught:
        labels.read_labels(tmp_path / name)
    assert "id2label" in caught.value.remedy


@pytest.mark.parametrize(
    "text",
    [
        "0: cat\n1: dog\n",
        "1: dog\n0: cat\n",
        "1 dog\n0 cat\n",
        "0 cat\n1 dog\n",
        "0|cat\n1|dog\n",
        "0;cat\n1;dog\n",
        "0,cat\n1,dog\n",
        "0=cat\n1=dog\n",
        "0\tcat\n1\tdog\n",
        "0 - cat\n1 - dog\n",
        "0 -> cat\n1 -> dog\n",
        "0. cat\n1. dog\n",
        "0) cat\n1) dog\n",
        "00 cat\n01 dog\n",
        "'0': 'cat',\n'1': 'dog',\n",
        "cat: 0\ndog: 1\n",
        "dog 1\ncat 0\n",
        "dog,1\ncat,0\n",
        "cat\t0\ndog\t1\n",
        "index;name\n1;dog\n0;cat\n",
        "Index Name\n0 cat\n1 dog\n",
        "name,index\ndog,1\ncat,0\n",
        '"cat"\n"dog"\n',
        "'cat',\n'dog',\n",
        "'cat',\n'dog'\n",
        "cat,\ndog,\n",
        "class 1: dog\nclass 0: cat\n",
        "- cat\n- dog\n",
        "* cat\n* dog\n",
        "- 'cat'\n- 'dog'\n",
        "- 1: dog\n- 0: cat\n",
        "{0: 'cat',\n 1: 'dog'}\n",
        "{1: 'dog', 0: \"cat\",  # comment\n}",
        '{"dog": 1, "cat": 0}',
        "['cat', 'dog']",
        "('c\\x61t', 'dog',)",
        '["cat", "dog"]',
        "\ufeffcat\rdog\r",
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.names"])
def test_keyed_quoted_and_bulleted_lines_are_read_by_their_keys(
    tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert labels.read_labels(tmp_path / name) == ANIMALS[:2]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "cat,0\ndog,1\n"),
        ("a.csv", "name,index\ndog,1\ncat,0\n"),
        ("a.csv", "label,name\n1,dog\n0,cat\n"),
        ("a.csv", "0;cat\n1;dog\n"),
        ("a.csv", "index;name\n1;dog\n0;cat\n"),
        ("a.csv", '"0";"cat"\n"1";"dog"\n'),
        ("a.csv", "sep=;\n0;cat\n1;dog\n"),
        ("a.csv", "0\tcat\n1\tdog\n"),
        ("a.csv", '0, "cat"\n1, "dog"\n'),
        ("a.csv", "0 cat\n1 dog\n"),
        ("a.csv", "id,name,supercategory,count\n1,dog,animal,0\n0,cat,animal,1\n"),
        ("a.tsv", "0,cat\n1,dog\n"),
        ("a.tsv", "cat\t0\ndog\t1\n"),
        ("a.json", '[{"id": 1, "name": "dog"}, {"id": 0, "name": "cat"}]'),
        ("a.json", '[{"name": "cat"}, {"name": "dog"}]'),
        ("a.json", '{"categories": [{"id": 1, "name": "dog"}, {"id": 0, "name": "cat"}]}'),
        ("a.json", '{"class_to_idx": {"dog": 1, "cat": 0}, "classes": ["cat", "dog"]}'),
        ("a.json", '[[0, "cat"], [1, "dog"]]'),
        ("a.json", '{"num_classes": 2, "label_names": ["cat", "dog"]}'),
        ("a.yaml", "path: x\nnames:\n  0: cat\n  1: dog  # a comment\nnc: 2\n"),
        ("a.yaml", "names:\n- cat\n- dog\nnc: 2\n"),
        ("a.yml", "nc: 2\nnames: ['cat', 'dog']\n"),
        ("a.yml", "names: [cat, dog]\n"),
        ("a.yml", "names: {1: 'dog', 0: 'cat'}\n"),
        ("a.yml", "- cat\n- dog\n"),
    ],
)
def test_tables_json_and_yaml_are_read_by_their_keys(tmp_path: Path, name: str, text: str) -> None:
    if name.endswith((".yaml", ".yml")):
        pytest.importorskip("yaml")
    (tmp_path / name).write_text(text)
    assert labels.read_labels(tmp_path / name) == ANIMALS[:2]


TABBY_AND_DOG = (Label("my cat", "n02123045"), Label("dog, big", "n99999999"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "n02123045 my cat\nn99999999 dog, big\n"),
        ("a.txt", "n02123045\tmy cat\nn99999999\tdog, big\n"),
        ("a.txt", "1: n99999999 dog, big\n0: n02123045 my cat\n"),
        ("a.txt", "0,n02123045,my cat\n1,n99999999,dog, big\n"),
        ("a.csv", '0,n02123045,my cat\n1,n99999999,"dog, big"\n'),
        ("a.csv", 'name,wnid,index\n"dog, big",n99999999,1\nmy cat,n02123045,0\n'),
        ("a.json", '{"1": ["n99999999", "dog, big"], "0": ["n02123045", "my cat"]}'),
        ("a.json", '[["n02123045", "my cat"], ["n99999999", "dog, big"]]'),
        ("a.json", '{"n02123045": "my cat", "n99999999": "dog, big"}'),
        ("a.txt", "{0: ['n02123045', 'my cat'], 1: ['n99999999', 'dog, big']}"),
    ],
)
def test_wordnet_ids_beside_names_are_kept(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert labels.read_labels(tmp_path / name) == TABBY_AND_DOG


@pytest.mark.parametrize(
    "names",
    [
        ["class 0", "class 1", "class 2"],
        ["Boeing 737", "Airbus 320"],
        ["2 dogs", "cat", "tree"],
        ["tench, Tinca tinca", "goldfish, Carassius auratus"],
        ["Apple: healthy", "Tomato: blight"],
        ["0", "1", "2"],
        ["cat (small)", "don't know"],
    ],
)
def test_plain_names_with_signs_and_digits_stay_as_they_are(
    tmp_path: Path, names: list[str]
) -> None:
    (tmp_path / "a.txt").write_text("\n".join(names))
    assert [label.name for label in labels.read_labels(tmp_path / "a.txt")] == names


def test_a_single_number_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0\n")
    assert labels.read_labels(tmp_path / "a.txt") == (Label("0"),)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.txt", "1 cat\n2 dog\n", "they are 1 to 2, so either they count from 1"),
        ("a.txt", "1: cat\n2: dog\n", "not 0, 1, 2"),
        ("a.txt", "0: cat\n2: dog\n", "there are 2 from 0 to 2, and 1 is missing"),
        ("a.txt", "0: cat\n0: dog\n", "0 occurs twice"),
        ("a.txt", "0: cat\n1: dog\nbird\n", "line 3 does not: 'bird'"),
        ("a.txt", "0: cat\nn02123045: dog\n", "some lines begin with an index"),
        ("a.txt", "n02119789 1 kit_fox\nn02100735 2 setter\n", "not 0, 1, 2"),
        ("a.txt", "10 kg\n20 kg\n", "not 0, 1, 2"),
        ("a.txt", "cat;chat\ndog;chien\n", "';' separates several columns"),
        ("a.txt", "cat\tchat\ndog\tchien\n", "separates several columns"),
        ("a.txt", "| 0 | cat |\n| 1 | dog |\n", "separates several columns"),
        ("a.txt", '"cat"\ndog\n', "line 1 is in quotes and line 2 is not"),
        ("a.txt", "- cat\ndog\n", "line 2 does not begin with a bullet"),
        ("a.txt", "# my classes\ncat\ndog\n", "it is a comment"),
        ("a.txt", "<!DOCTYPE html>\n<html>\n", "web page"),
        ("a.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        ("a.txt", "item {\n  id: 1\n  name: 'cat'\n}\n", "begins a block"),
        ("a.txt", "class_name\ncat\ndog\n", "title of the names"),
        ("a.txt", "0:\n1:\n", "line 1 has an index without a name"),
        ("a.txt", "names = ['cat', 'dog']\n", "line 1 contains more than a name"),
        ("a.txt", "'cat', 'dog'\n", "line 1 contains more than a name"),
        ("a.txt", "0: {'name': 'cat'}\n1: {'name': 'dog'}\n", "line 1 contains more than a name"),
        ("a.json", '["cat", "1: dog"]', r"read like lines of text, and 1 .* line 2 \('1: dog'\)"),
        ("a.txt", "x" * 2001, "more than 2000 characters"),
        ("a.txt", "cat\x07\ndog\n", "control characters"),
        ("a.txt", "{0: __import__('os').getcwd()}", "neither JSON nor a Python list"),
        ("a.txt", "{0: 'cat', 0: 'dog'}", "0 occurs twice"),
        ("a.txt", "{0: 'cat'} x", "neither JSON nor a Python list"),
        ("a.txt", "{0: 'cat'}, {}", "text after the list or dict"),
        ("a.txt", "{0: [[[['cat']]]]}", "nested more than 4 levels"),
        ("a.txt", "{0: 'cat'", "the end stands where"),
        ("a.txt", "{" * 100_000, "is neither a string|key|nested"),
        ("a.csv", "0,1\n1,0\n", "both columns have only numbers"),
        ("a.csv", "cat;chat\ndog;chien\n", "no column has only numbers"),
        ("a.csv", "0,cat,5\n1,dog,6\n", "no titles tell"),
        ("a.csv", "1,cat\n2,dog\n", "count from 1"),
        ("a.json", '{"class_to_idx": {"a": 1, "b": 0}, "classes": ["a", "b"]}', "different labels"),
        ("a.json", '{"categories": [{"id": 1, "name": "cat"}]}', "count from 1"),
        ("a.json", '{"n02123045": "cat", "n01440764": "fish"}', "not sorted"),
        ("a.json", '["\\ud800"]', "control characters"),
        ("a.yaml", "train: a\nval: b\n", "no list of names"),
        ("a.yaml", "names:\n  0: cat\nclasses:\n  0: dog\n", "different labels"),
        ("a.yaml", "a:\n  names: [cat]\nb:\n  names: [dog]\n", "several of its maps"),
        ("a.pbtxt", "item {}", ".pbtxt is not a format"),
    ],
)
def test_ambiguous_files_are_refused_with_the_reason(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    if name.endswith(".yaml"):
        pytest.importorskip("yaml")
    (tmp_path / name).write_text(text, newline="")
    with pytest.raises(RequestError, match=reason) as caught:
        labels.read_labels(tmp_path / name)
    assert "indices start at 0" in caught.value.remedy


def test_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_files, "MAX_BYTES", 3)
    (tmp_path / "a.txt").write_text("cats")
    with pytest.raises(RequestError, match="larger than"):
        labels.read_labels(tmp_path / "a.txt")


def test_long_lines_of_spaces_take_little_time(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"a{' ' * 1997}b\n" * 2000 + "cat")
    start_s = time.process_time()
    assert len(labels.read_labels(tmp_path / "a.txt")) == 2001
    assert time.process_time() - start_s < 10


def test_a_missing_index_is_found_quickly(tmp_path: Path) -> None:
    indices = [*range(100_000), 100_001]
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{index}: class {index}\n" for index in indices))
    start = time.process_time()
    with pytest.raises(RequestError, match="from 0 to 100001, and 100000 is missing"):
        labels.read_labels(path)
    assert time.process_time() - start < 10


def test_python_objects_are_read_by_their_keys() -> None:
    assert labels.labels_from_data({1: "dog", 0: "cat"}) == ANIMALS[:2]
    assert labels.labels_from_data({"dog": 1, "cat": 0}) == ANIMALS[:2]
    assert labels.labels_from_data((Label("cat"), "dog")) == ANIMALS[:2]
    for wrong in ({"cat", "dog"}, "cat", {0: 1, 1: "x"}, [0, 1], {-1: "a"}, {True: "a"}):
        with pytest.raises(ValueError, match=r"neither a list|not a string|not 0, 1, 2"):
            labels.labels_from_data(wrong)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        labels.read_labels(tmp_path / "missing.txt")
