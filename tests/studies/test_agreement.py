"""Equal answers of files, counted pair by pair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tinyvit.studies import agreement


@pytest.fixture
def pictures(images: Path, tmp_path: Path) -> Path:
    """Two classes of the demo's, two pictures each."""
    for wnid in ("n01443537", "n07920052"):
        (tmp_path / wnid).mkdir()
        for i, name in enumerate(("cat.jpg", "coffee.jpg")):
            Image.open(images / name).save(tmp_path / wnid / f"{i}.png")
    return tmp_path


def test_a_file_agrees_with_itself_and_answers_are_counted(
    demo: dict[str, Path], pictures: Path, capsys: Any
) -> None:
    assert (
        agreement.main(
            [
                str(demo["onnx"]),
                f"{demo['onnx']}@onnxruntime",
                "--val-data",
                str(pictures),
                "--json",
            ]
        )
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["agreement"] == [[100, 100], [100, 100]]
    assert told["pictures"] == 4
    assert [one["top1"] for one in told["files"]] == [25, 25], (
        "the coffee is an espresso, in one of its two folders; the cat is no fish"
    )
    assert (
        agreement.main(
            [str(demo["onnx"]), str(demo["onnx"]), "--val-data", str(pictures), "--limit", "2"]
        )
        == 0
    )
    assert "2 pictures" in capsys.readouterr().out


def test_one_file_is_refused(demo: dict[str, Path], pictures: Path, capsys: Any) -> None:
    assert agreement.main([str(demo["onnx"]), "--val-data", str(pictures)]) == 1
    assert "give two or more" in capsys.readouterr().err
