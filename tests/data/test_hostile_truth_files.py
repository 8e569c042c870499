"""Truth files, development kits and names of strangers cost bounded time and memory."""

from __future__ import annotations

import gzip
import time
import unicodedata
from pathlib import Path

import pytest

from tests.data.test_hostile_archives import make_table, write_devkit
from tinyvit.data import imagenet_devkit, truth_files
from tinyvit.data.composed_names import compose_name
from tinyvit.data.folder_index import FolderIndex
from tinyvit.data.imagenet_devkit import read_devkit
from tinyvit.data.label_matching import LabelMatcher
from tinyvit.data.truth_files import read_truth_file
from tinyvit.errors import RequestError
from tinyvit.labels import Label


@pytest.mark.parametrize("blank", ["\xa0", "\u2003", "'\xa0'", '"\v"', "' '", "''"])
def test_a_class_of_white_space_is_refused(tmp_path: Path, blank: str) -> None:
    for name, text in (
        ("a.csv", f"1.jpg,{blank}\n2.jpg,cat\n".replace('"', '""')),
        ("a.json", f'{{"1.jpg": "{blank}"}}'.replace('""', '\\"').replace("\v", "\\u000b")),
        ("b.json", f'[{{"image": "1.jpg", "label": "{blank}"}}]'.replace('"\v"', "\\u000b")),
    ):
        path = tmp_path / name
        path.write_text(text, "utf-8")
        with pytest.raises(RequestError, match="truth file"):
            read_truth_file(path, ["1.jpg"])


@pytest.mark.parametrize("name", ["\u0f73" * 20_000, "a\u0315\u0300" * 20_000, "\u0f73" * 65_000])
def test_composing_a_long_name_takes_no_quadratic_time(tmp_path: Path, name: str) -> None:
    start = time.process_time()
    assert compose_name(name) == name
    assert LabelMatcher([Label("cat")]).find_index(name) is None
    path = tmp_path / "a.csv"
    path.write_text(f"1.jpg,{name}\n{name},cat\n", "utf-8")
    assert read_truth_file(path, ["1.jpg"]).classes == {"1.jpg": (name,)}
    assert time.process_time() - start < 5


def test_usual_names_are_composed() -> None:
    decomposed = "e\u0301/" * 200 + "cafe\u0301"
    assert compose_name(decomposed) == "\xe9/" * 200 + "caf\xe9"
    assert compose_name("e\u0301" * 128) == "\xe9" * 128
    assert compose_name(decomposed) == unicodedata.normalize("NFC", decomposed)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "a,1\n" * 1_500_001, "it has 1500001 lines, more than 1500000"),
        ("a.txt", "\x0b" * 1_500_001, "it has 1500001 lines, more than 1500000"),
        ("a.jsonl", "0\n" * 1_500_001, "it has 1500001 lines, more than 1500000"),
        ("a.csv", "," * 8_000_001, "it has 8000001 values, more than 8000000"),
        ("a.json", "[" + "0," * 8_000_000 + "0]", "it has 8000001 values, more than 8000000"),
        ("a.json", "[" + "[]," * 4_000_000 + "[]]", "it has 8000002 values, more than 8000000"),
    ],
)
def test_very_many_entries_are_refused(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match=reason):
        read_truth_file(tmp_path / name, ["1.jpg"])
    assert truth_files.MAX_BYTES == 64 * 2**20


def test_equal_file_names_in_many_folders_take_no_quadratic_time(tmp_path: Path) -> None:
    count = 10_000
    rows = [f"data/p{i}/a/b/c/d/1.jpg,c{i}\n" for i in range(count)]
    others = [f"q{i}/a/b/c/d/1.jpg,dog\n" for i in range(count)]
    path = tmp_path / "a.csv"
    path.write_text("".join(rows + others))
    names = sorted(f"train/p{i}/a/b/c/d/1.jpg" for i in range(count))
    start = time.process_time()
    truth = read_truth_file(path, names)
    assert time.process_time() - start < 20
    assert truth.classes["train/p77/a/b/c/d/1.jpg"] == ("c77",)
    assert truth.unused_count == count


def test_folders_are_compared_from_the_last_one() -> None:
    index: FolderIndex[str] = FolderIndex()
    for item in ("b", "a/b", "c/b", "x/a/b", ""):
        index.add(tuple(item.split("/")) if item else (), item)
    assert index.find_nearest(("y", "a", "b")) == ["a/b", "x/a/b"]
    assert index.find_nearest(("z",)) == ["b", "a/b", "c/b", "x/a/b", ""]
    assert index.find_nearest(("q", "b")) == ["b", "a/b", "c/b", "x/a/b"]
    assert index.find_compatible(("a", "b")) == (2, ["a/b", "x/a/b"])
    assert index.find_compatible(("y", "a", "b")) == (2, ["a/b"])
    assert index.find_compatible(("y", "d", "b")) == (1, ["b"])
    assert index.find_compatible(("d",)) == (0, [""])


def test_development_kits_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    write_devkit(path, make_table(), numbers=b"1\n" * (2**21 + 1))
    with pytest.raises(ValueError, match=r"ground_truth.txt is larger than 4 MiB"):
        read_devkit(path)
    path.write_bytes(gzip.compress(b"") * 900_000)
    with pytest.raises(ValueError, match="it is larger than 16 MiB"):
        read_devkit(path)
    assert imagenet_devkit.MAX_PACKED_BYTES == 16 * 2**20
