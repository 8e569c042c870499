"""Tables with several columns for each class: ids order the labels, names are the labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyvit.data.truth_files import read_truth_file
from tinyvit.errors import RequestError
from tinyvit.labels import read_labels


@pytest.mark.parametrize(
    "text",
    [
        "class_id,class_name\n1,cat\n0,dog\n",
        "class_name;class_id\ncat;1\ndog;0\n",
        "Class ID,Class Name\n1,cat\n0,dog\n1,cat\n",
        "filename,class_id,class_name\na.jpg,1,cat\nb.jpg,0,dog\nc.jpg,1,cat\n",
        "id,class_id,class_name\n1,1,cat\n0,0,dog\n",
        ",class_id,class_name\n0,1,cat\n1,0,dog\n",  # pandas writes the numbers of the rows
    ],
)
def test_ids_order_the_names(text: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(text)
    assert [label.name for label in read_labels(tmp_path / "labels.csv")] == ["dog", "cat"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("class_id,class_name\n0,cat\n1,dog\n0,dog\n", "0 has two names, 'cat' and 'dog'"),
        ("id,class_id,class_name\n0,1,cat\n1,0,dog\n", "id and class_id state different indices"),
        ("class_id,class_name\n1,cat\n2,dog\n1,cat\n", "they are 1 to 2, so either they count"),
        ("0,cat\n1,dog\n0,cat\n", "0 occurs twice"),
    ],
)
def test_contradicting_ids_are_refused(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(RequestError, match=reason):
        read_labels(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("titles", "rows", "classes"),
    [
        ("filename,class_id,class_name", ("a.jpg,1,cat", "b.jpg,0,dog"), ("cat", "dog")),
        ("class_name,class_id,image", ("cat,1,a.jpg", "dog,0,b.jpg"), ("cat", "dog")),
        ("file,label,label_name", ("a.jpg,1,7", "b.jpg,0,8"), ("7", "8")),
        ("file,label,label_name", ("a.jpg,1,cat", "b.jpg,1,cat"), ("cat", "cat")),
        (
            "file,class_id,class_name",
            ("a.jpg,n02123045,tabby", "b.jpg,n01440764,tench"),
            ("n02123045", "n01440764"),
        ),
    ],
)
def test_names_are_the_classes_of_a_truth_file(
    titles: str, rows: tuple[str, ...], classes: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "truth.csv").write_text("\n".join((titles, *rows)) + "\n")
    truth = read_truth_file(tmp_path / "truth.csv", ["a.jpg", "b.jpg"])
    assert truth.classes == {"a.jpg": (classes[0],), "b.jpg": (classes[1],)}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "file,class_id,class_name\na.jpg,1,cat\nb.jpg,1,dog\n",
            "for the class_id '1' both the class_name 'cat' and 'dog'",
        ),
        (
            "file,class_id,class_name\na.jpg,1,cat\nb.jpg,0,cat\n",
            "for the class_name 'cat' both the class_id '1' and '0'",
        ),
        ("file,class_id,label\na.jpg,1,cat\nb.jpg,0,dog\n", "not exactly one is that of the file"),
    ],
)
def test_a_truth_file_that_contradicts_itself_is_refused(
    text: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "truth.csv").write_text(text)
    with pytest.raises(RequestError, match=reason):
        read_truth_file(tmp_path / "truth.csv", ["a.jpg", "b.jpg"])
