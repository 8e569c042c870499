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
