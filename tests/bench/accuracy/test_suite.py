"""Accuracy of a model whose right answers are known, and what is said where it cannot be had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tinyvit.bench import cli
from tinyvit.bench.accuracy.datasets import Place, open_dataset
from tinyvit.bench.accuracy.evaluate import accuracy_result, evaluate
from tinyvit.bench.accuracy.options import EvaluationOptions
from tinyvit.bench.accuracy.suite import evaluate_all
from tinyvit.bench.record import Record
from tinyvit.errors import RequestError

ASKED = EvaluationOptions(threads=1)


def moved(folders: Path, count: int) -> None:
    """Put `count` pictures into the next class's folder, where they are wrong."""
    names = sorted(each.name for each in folders.iterdir())
    for path in sorted(folders.rglob("*.png"))[:count]:
        path.rename(folders / names[(names.index(path.parent.name) + 1) % len(names)] / path.name)


def test_what_is_right_is_counted(demo: dict[str, Path], folders: Path) -> None:
    moved(folders, 4)
    (one,) = evaluate_all(
        [str(demo["onnx"])], open_dataset(Place(str(folders))), ASKED, keep_answers=True
    ).record.accuracy
    assert (one.images, one.total, one.skipped, one.top1) == (40, 40, 0, 90.0)
    assert one.top1 <= one.top5 <= 100
    assert one.top1_interval == pytest.approx((76.95, 96.04), abs=0.01)
    assert (one.against, len(one.answers)) == (None, 40)
    assert sum(row.images for row in one.classes) == 40
    assert min(row.top1 for row in one.classes) == one.classes[0].top1


def test_a_file_against_another(demo: dict[str, Path], folders: Path) -> None:
    if "openvino" not in demo:
        pytest.skip("needs OpenVINO")
    found = evaluate_all(
        [str(demo["onnx"]), str(demo["openvino"])], open_dataset(Place(str(folders))), ASKED
    )
    first, second = found.record.accuracy
    assert first.against is None
    assert second.against is not None
    assert (second.against.to, second.against.agreement, second.against.p) == (
        str(demo["onnx"]),
        100,
        1,
    )


def test_a_wrong_preprocessing_is_worse_by_flips(demo: dict[str, Path], folders: Path) -> None:
    dataset = open_dataset(Place(str(folders)))
    own = evaluate(str(demo["onnx"]), dataset, ASKED)
    paper = evaluate(str(demo["onnx"]), dataset, EvaluationOptions(threads=1, preprocess="paper"))
    against = accuracy_result(paper, own).against
    assert accuracy_result(own).top1 == 100
    assert against is not None
    assert against.better == 0
    assert against.worse == round((100 - accuracy_result(paper).top1) * 40 / 100)
    assert "resize 256" in accuracy_result(paper).preprocess


@pytest.mark.parametrize(("bad", "refused"), [(1, False), (2, True)])
def test_unreadable_pictures_are_counted_and_named(
    bad: int, refused: bool, demo: dict[str, Path], folders: Path
) -> None:
    some = sorted(folders.rglob("*.png"))
    for i in range(80):  # 120 pictures, of which one may be unreadable
        path = some[i % 40]
        (path.parent / f"{path.stem}{i}.png").write_bytes(path.read_bytes())
    for path in some[:bad]:
        path.write_bytes(path.read_bytes()[:60])
    dataset = open_dataset(Place(str(folders)))
    if refused:
        with pytest.raises(RequestError, match="2 of the 120 pictures cannot be read"):
            evaluate(str(demo["onnx"]), dataset, ASKED)
        return
    looked = evaluate(str(demo["onnx"]), dataset, ASKED)
    one = accuracy_result(looked)
    assert (one.images, one.skipped, one.total, one.top1) == (119, 1, 120, 100)
    assert some[0].name in looked.notes[-1]


def test_the_command(
    demo: dict[str, Path], folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved(folders, 3)
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    sheet = tmp_path / "sheet.png"
    options = ["--data", str(folders), "--threads", "1"]
    assert (
        cli.main(
            [
                "accuracy",
                str(demo["onnx"]),
                *options,
                "--json",
                "--contact-sheet",
                str(sheet),
                "--progress",
            ]
        )
        == 0
    )
    out, err = capsys.readouterr()
    accuracy_result = json.loads(out)["results"][0]
    assert (accuracy_result["artifact"], accuracy_result["top1"], accuracy_result["images"]) == (
        str(demo["onnx"]),
        92.5,
        40,
    )
    assert Record.from_json(out, "stdout").data["pictures"] == 40
    assert "40 of 40" in err
    assert sheet.stat().st_size > 1000
    assert cli.main(["accuracy", str(tmp_path / "bad.onnx"), str(demo["onnx"]), *options]) == 1
    out, err = capsys.readouterr()
    assert "| demo.onnx | onnxruntime | 40 | 92.50% (80.1 to 97.4) |" in out
    assert "error: " in err


def test_classes_of_another_model(
    demo: dict[str, Path], folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next(folders.rglob("*.png"))
    (folders / "n99999999").mkdir()
    path.rename(folders / "n99999999" / path.name)
    assert cli.main(["accuracy", str(demo["onnx"]), "--data", str(folders), "--threads", "1"]) == 1
    assert "n99999999" in capsys.readouterr().err
    assert (
        cli.main(
            [
                "accuracy",
                str(demo["onnx"]),
                "--data",
                str(folders),
                "--threads",
                "1",
                "--only-known-classes",
            ]
        )
        == 0
    )
    assert (
        "1 pictures of 1 classes that the model does not have were left out"
        in capsys.readouterr().out
    )
