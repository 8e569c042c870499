"""Agreement of artifacts is counted pair by pair."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("onnx")

from tinyvit.studies import agreement


@pytest.fixture
def class_folders(images: Path, tmp_path: Path) -> Path:
    """Two of the demo model's classes, tench and espresso, with the same two photographs."""
    for wnid in ("n01440764", "n07920052"):
        (tmp_path / wnid).mkdir()
        for i, name in enumerate(("cat.jpg", "coffee.jpg")):
            Image.open(images / name).save(tmp_path / wnid / f"{i}.png")
    return tmp_path


def test_an_artifact_agrees_with_itself(
    demo: dict[str, Path], class_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifacts = [str(demo["onnx"]), f"{demo['onnx']}@onnxruntime"]
    assert agreement.main([*artifacts, "--val-data", str(class_folders), "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["agreement"] == [[100, 100], [100, 100]]
    assert output["images"] == 4
    assert [row["engine"] for row in output["files"]] == ["onnxruntime", "onnxruntime"]
    # The coffee is an espresso, which is the class of one of its two folders; the cat is no fish.
    assert [row["top1"] for row in output["files"]] == [25, 25]
    assert [len(row["predictions"]) for row in output["files"]] == [4, 4]


def test_the_number_of_images_is_limited(
    demo: dict[str, Path], class_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(demo["onnx"]), str(demo["onnx"]), "--val-data", str(class_folders)]
    assert agreement.main([*command, "--limit", "2"]) == 0
    assert "2 images" in capsys.readouterr().out


def test_one_artifact_is_refused(class_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert agreement.main(["demo.onnx", "--val-data", str(class_folders)]) == 1
    assert "give two or more" in capsys.readouterr().err
