"""Label files with more entries than there may be classes are refused before they are parsed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyvit.errors import RequestError
from tinyvit.labels import label_files, read_labels


def check_refusal(path: Path, reason: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_labels(path)
    assert caught.value.cause == f"the labels file {path} is not understood ({reason})"


@pytest.mark.parametrize("name", ["a.json", "a.txt"])
@pytest.mark.parametrize("entry", ["[],", "{},", '{"a":0},', "1,", "[1],"])
def test_more_than_four_million_values_are_refused(tmp_path: Path, name: str, entry: str) -> None:
    path = tmp_path / name
    path.write_text("[" + entry * 4_000_000 + "1]")
    check_refusal(path, "it has more than 4000000 values")


@pytest.mark.parametrize(("name", "row"), [("a.txt", "a\n"), ("a.csv", "a,1\n")])
def test_more_than_a_million_rows_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, row: str
) -> None:
    """The real limit takes seconds, so that another one is tried."""
    monkeypatch.setattr(label_files, "MAX_CLASSES", 100)
    path = tmp_path / name
    path.write_text(row * 102)
    check_refusal(path, "it has more than 100 labels")


def test_a_long_string_in_python_notation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("['" + "\\x41" * 100_001 + "', 'b']")
    check_refusal(path, "line 1 is neither JSON nor a Python list or dict")
    path.write_text("['" + "\\x41" * 2000 + "', 'b']")
    assert [label.name for label in read_labels(path)] == ["A" * 2000, "b"]
