"""Lines with an index in an unknown form are refused, not taken as names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyvit.errors import RequestError
from tinyvit.labels import read_labels


@pytest.mark.parametrize(
    "line",
    [
        "{}.0 {}",
        "{} \u2013 {}",
        "{}::{}",
        "{} ==> {}",
        "#{} {}",
        "{}_{}",
        "{}-{}",
        "{}/{}",
        "class_{} {}",
        "c{}: {}",
        "id: {}, name: {}",
    ],
)
def test_unknown_form_of_index_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "labels.txt"
    rows = [(2, "cow"), (0, "ant"), (1, "bee")]
    path.write_text("\n".join(line.format(*row) for row in rows), encoding="utf-8")
    with pytest.raises(RequestError, match=r"write index,name in a \.csv file or use JSON"):
        read_labels(path)


@pytest.mark.parametrize("text", ["cow (2)\nant (0)\nbee (1)", "cow::2\nant::0\nbee::1"])
def test_unknown_form_of_final_index_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(text)
    with pytest.raises(RequestError, match=r"write index,name in a \.csv file or use JSON"):
        read_labels(path)


def test_names_with_digits_and_hyphens_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("4x4 truck\nT-shirt\nU-boat\n1 euro coin\n")
    names = [label.name for label in read_labels(path)]
    assert names == ["4x4 truck", "T-shirt", "U-boat", "1 euro coin"]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("c) cow\na) ant\nb) bee\n", "letters that count the lines"),
        ("f) cow\nd) ant\nz) bee\n", "letters that count the lines"),
        ("C. cow\nA. ant\nB. bee\n", "letters that count the lines"),
        ("b => cow\na => ant\n", "letters that count the lines"),
        ("0x2: cow\n0x0: ant\n0x1: bee\n", "hexadecimal or binary numbers"),
        ("0b1 cow\n0b0 ant\n", "hexadecimal or binary numbers"),
        ("ii. cow\ni. ant\niii. bee\n", "Roman numerals"),
        ("two: cow\nzero: ant\none: bee\n", "numbers in words"),
        ("third - cow\nfirst - ant\n", "numbers in words"),
        ("\u2461cow\n\u2460ant\n", "numbers in an unknown script"),
        ("\u4e8c\u3001cow\n\u4e00\u3001ant\n", "numbers in an unknown script"),
    ],
)
def test_keys_that_are_no_decimal_numbers_are_refused(tmp_path: Path, text: str, form: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RequestError, match=f"its lines begin with {form} .*write index,name"):
        read_labels(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cow    100\nant    90\n", "several spaces separate columns"),
        ("0: cow    100\n1: ant    90\n", "several spaces separate columns"),
        ("cow 100\nant 90\nbee 80\n", "sorted by these numbers"),
        ("cow: 0.7\nant: 0.2\nbee: 0.1\n", "sorted by these numbers"),
        ("cow (70%)\nant (20%)\nbee (10%)\n", "sorted by these numbers"),
        ("images/ant/1.jpg\nimages/bee/2.PNG\n", "its lines are paths of images"),
        ("cow 100\nant 90\nName: label, dtype: int64\n", "last line was printed by pandas"),
        ("    100 cow\n     90 ant\n", "sorted as text"),
        ("OrderedDict([(1, 'cow'), (0, 'ant')])\n", "line 1 contains more than a name"),
    ],
)
def test_counts_and_printed_objects_are_no_names(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(text)
    with pytest.raises(RequestError, match=reason):
        read_labels(path)


@pytest.mark.parametrize(
    "names",
    [
        ["C. elegans", "D. rerio", "E. coli"],
        ["A-frame", "B-52"],
        ["Boeing 747", "Boeing 737", "Airbus 320"],
        ["golden  retriever", "tabby"],
        ["\u4e09\u6587\u9c7c", "\u4e00\u54c1\u7ea2"],
        ["dog: poodle", "cat: Persian"],
        ["a", "b", "c"],
    ],
)
def test_names_that_resemble_keys_or_counts_are_names(tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(names), encoding="utf-8")
    assert [label.name for label in read_labels(path)] == names
