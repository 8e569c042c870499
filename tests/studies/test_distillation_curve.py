"""The study trains two students on the same images, and writes their accuracies and CPU hours."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("torch")
pytest.importorskip("tensorboard")
pytest.importorskip("matplotlib")
pytest.importorskip("resource")

from tests.helpers.distill_data import TEACHER, write_class_folders
from tinyvit.studies.distillation_curve import Curve, main


def test_comparison_has_the_accuracy_and_the_cpu_hours_of_both_students(tmp_path: Path) -> None:
    data = write_class_folders(tmp_path / "data")
    val_data = write_class_folders(tmp_path / "val", seed=1)
    output = tmp_path / "curve"
    sizes = ["--img-size", "64", "--epochs", "2", "--saved-epochs", "1", "--batch", "4"]
    folders = ["--data", str(data), "--val-data", str(val_data), "-o", str(output)]
    assert main([*folders, "--teacher", TEACHER, *sizes]) == 0
    record = json.loads((output / "record.json").read_text())
    assert (record["images"], record["validation_images"]) == (12, 12)
    labels, teacher = record["curves"]
    for curve in (labels, teacher):
        assert len(curve["top1"]) == 2
        assert all(0 <= top1 <= 100 for top1 in curve["top1"])
        assert curve["training_cpu_hours"] > 0
    assert labels["saving_cpu_hours"] == 0
    assert teacher["saving_cpu_hours"] > 0
    page = (output / "page.md").read_text()
    assert page.count("\n| ") == 3
    assert ElementTree.parse(output / "curve.svg").getroot().tag.endswith("svg")


def test_a_failed_step_ends_the_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_class_folders(tmp_path / "data")
    folders = ["--data", str(data), "--val-data", str(data), "-o", str(tmp_path / "curve")]
    assert main([*folders, "--teacher", "missing.py:small", "--epochs", "1"]) != 0
    assert "a step of the comparison failed" in capsys.readouterr().err
    assert not (tmp_path / "curve" / "page.md").exists()


def test_points_divide_the_cpu_time_of_training_among_epochs() -> None:
    curve = Curve("labels", (10.0, 20.0), training_cpu_hours=3.0, saving_cpu_hours=1.0)
    assert curve.list_points() == [(1.5, 10.0), (3.0, 20.0)]
