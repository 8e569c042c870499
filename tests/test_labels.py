"""Labels of ImageNet are built in, and labels in users' files are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tinyvit import labels
from tinyvit.errors import RequestError
from tinyvit.labels import Label


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
        ("a.txt", b"0 cat\n1 dog\n", "more than a name"),
        ("a.txt", b"n02123045 cat\nn00000000 dog\n", "more than a name"),
        ("a.txt", b"n02123045\tcat\n", "more than a name"),
        ("a.yaml", b"names:\n  0: cat\n", ".yaml is not a format"),
        ("a.json", b"{", "Expecting"),
        ("a.json", b"[" * 100_000, "recursion"),
        ("a.json", b'{"1": "x"}', "not 0, 1, 2"),
        ("a.json", b'{"x": 1, "y": 2}', "not 0, 1, 2"),
        ("a.json", b'{"x": 0, "y": 0}', "occurs twice"),
        ("a.json", b'{"0": "x", "0": "y"}', "occurs twice"),
        ("a.json", b'{"x": true}', "not 0, 1, 2"),
        ("a.json", b'{"0": ["n02123045", "tabby"]}', "not a string"),
        ("a.json", b'"cat"', "neither a list"),
        ("a.csv", b"a,b,c\n", "one column"),
        ("a.csv", b"0,cat\ndog\n", "one column"),
        ("a.csv", b"1,cat\n2,dog\n", "not 0, 1, 2"),
        ("a.csv", b"0,cat\n0,dog\n", "occurs twice"),
        ("a.csv", b"cat,0\ndog,1\n", "not 0, 1, 2"),
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


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        labels.read_labels(tmp_path / "missing.txt")
