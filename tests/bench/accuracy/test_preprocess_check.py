"""A file that is fed in a wrong way is told the right one."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tinyvit.bench import cli
from tinyvit.bench.accuracy import preprocess_check
from tinyvit.bench.accuracy.datasets import Place, open_dataset
from tinyvit.bench.accuracy.options import EvaluationOptions
from tinyvit.bench.accuracy.preprocess_check import check, ways
from tinyvit.preprocess import timm_preprocess
from tinyvit.runtimes.classifier import Classifier


def test_the_right_way_is_not_doubted(
    demo: dict[str, Path], folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        cli.main(
            [
                "accuracy",
                str(demo["onnx"]),
                "--data",
                str(folders),
                "--threads",
                "1",
                "--preprocess-check",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "| its own | 100.00% |" in out
    assert "none of 8 other ways" in out


def test_a_wrong_mean_is_named(
    demo: dict[str, Path], folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the file said the wrong thing of itself."""
    (given,) = (
        way.preprocess
        for way in ways(timm_preprocess(224), "host")
        if way.name == "0 to 1, no mean and std"
    )
    monkeypatch.setattr(
        preprocess_check,
        "open_classifier",
        lambda path, asked: Classifier(path, threads=1, preprocess=given),
    )
    _, said = check(
        str(demo["onnx"]), open_dataset(Place(str(folders))), EvaluationOptions(threads=1)
    )
    assert "with ImageNet's mean and std, 100.0% of 40 are right" in said


def test_exchanged_colors_are_named(
    demo: dict[str, Path], folders: Path, pictures: list[Image.Image]
) -> None:
    for path in folders.rglob("*.png"):
        red, green, blue = pictures[int(path.stem)].split()
        Image.merge("RGB", (blue, green, red)).save(path)
    _, said = check(
        str(demo["onnx"]), open_dataset(Place(str(folders))), EvaluationOptions(threads=1)
    )
    assert "with red and blue exchanged, 100.0% of 40 are right" in said


@pytest.mark.parametrize(("stage", "count"), [("host", 8), ("normalize", 6), ("full", 1)])
def test_only_what_the_file_leaves_open_is_tried(stage: str, count: int) -> None:
    found = ways(timm_preprocess(224), stage)  # type: ignore[arg-type]
    assert len(found) == count
    assert all(way.preprocess != timm_preprocess(224) or way.channels == "bgr" for way in found)
