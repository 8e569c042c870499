"""The comparison table of int8 files and a float32 file has correct rows."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx

from tinyvit.errors import MissingDependencyError
from tinyvit.install_command import format_packages_command
from tinyvit.studies import int8_comparison, other_quantizers

EXAMPLE_IMAGES = {"n02123045": "cat.jpg", "n07920052": "coffee.jpg"}
"""Classes 3 and 9 of the demo model. It classifies the second image correctly, not the first."""


@pytest.fixture
def class_folders(images: Path, tmp_path: Path) -> Path:
    """One image in each of two folders, named by WordNet id."""
    for wnid, name in EXAMPLE_IMAGES.items():
        (tmp_path / "classes" / wnid).mkdir(parents=True)
        shutil.copy(images / name, tmp_path / "classes" / wnid)
    return tmp_path / "classes"


def save_constant_classifier(class_index: int, source: Path, path: Path) -> Path:
    """Save a copy of an ONNX file that predicts one class for every image."""
    model = onnx.load(source)
    output = model.graph.output[0].name
    bias = np.zeros((1, 12), np.float32)
    bias[0, class_index] = 1e3
    for node in model.graph.node:
        node.output[:] = ["before_bias" if name == output else name for name in node.output]
    model.graph.initializer.append(onnx.numpy_helper.from_array(bias, "bias"))
    model.graph.node.append(onnx.helper.make_node("Add", ["before_bias", "bias"], [output]))
    onnx.save(model, path)
    return path


def table_rows(text: str) -> dict[tuple[str, str], list[str]]:
    """The cells of every row after the first two, by (file, engine)."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    return {(row[0], row[1]): row[2:] for row in cells[2:]}


@pytest.mark.slow
def test_the_same_network_agrees_and_a_constant_one_does_not(
    demo: dict[str, Path], class_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx_path, openvino_path = demo["onnx"], demo["openvino"]
    tabby_path = save_constant_classifier(2, onnx_path, tmp_path / "tabby.onnx")
    files = [str(path) for path in (onnx_path, tabby_path, openvino_path)]
    out = tmp_path / "table.md"
    arguments = [str(onnx_path), *files, "--val-data", str(class_folders)]
    assert int8_comparison.main([*arguments, "--rounds", "3", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    table = table_rows(printed)
    assert table_rows(out.read_text()) == table
    engines = [engine for engine in ("onnxruntime", "openvino") if importlib.util.find_spec(engine)]
    for engine in engines:
        assert table["float32", engine][2:] == ["50.0%", "", "", "0.0%"]
        assert table[onnx_path.name, engine][0] == "1.00"
        assert table[onnx_path.name, engine][2:] == ["50.0%", "0 / 0", "100.0%", "0.0%"]
        assert table["tabby.onnx", engine][2:] == ["50.0%", "1 / 1", "0.0%", "0.0%"]
        assert 0.2 < float(table[onnx_path.name, engine][1]) < 5
    # The size counts the .bin file beside the .xml file.
    assert float(table[openvino_path.name, "openvino"][0]) == pytest.approx(1.03, abs=0.05)
    assert (openvino_path.name, "onnxruntime") not in table
    in_onnxruntime = f"- {onnx_path.name} in onnxruntime and"
    assert f"{in_onnxruntime} {openvino_path.name} in openvino: 100.0%" in printed
    assert f"{in_onnxruntime} tabby.onnx in openvino: 0.0%" in printed


def test_missing_requirements_are_reported_before_the_table(
    demo: dict[str, Path],
    class_folders: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = [str(demo["onnx"])] * 2 + ["--val-data", str(class_folders), "--peers"]
    assert int8_comparison.main(arguments) == 1
    error = "error: --peers needs images for calibration: give --calib-data too\n"
    assert capsys.readouterr().err == error
    monkeypatch.setitem(sys.modules, "timm", None)
    assert int8_comparison.main([*arguments, "--calib-data", str(class_folders)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    remedy = format_packages_command("timm", "torchvision")
    assert printed.err == f"error: timm is not installed: {remedy}\n"


def test_a_missing_nncf_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingDependencyError) as caught:
        other_quantizers.import_nncf()
    assert caught.value.remedy.startswith(f"{format_packages_command('nncf')}; only this")


def test_a_float32_file_without_a_manifest_is_refused(
    demo: dict[str, Path],
    class_folders: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    without_manifest = onnx.load(demo["onnx"])
    del without_manifest.metadata_props[:]
    path = tmp_path / "without_manifest.onnx"
    onnx.save(without_manifest, path)
    arguments = [str(path), str(demo["onnx"]), "--val-data", str(class_folders)]
    assert int8_comparison.main(arguments) == 1
    assert "was written by tinyvit-export, but its manifest" in capsys.readouterr().err


def test_folders_that_are_not_classes_of_the_model_are_refused(
    demo: dict[str, Path], class_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (class_folders / "n07920052").rename(class_folders / "n00000000")
    arguments = [str(demo["onnx"])] * 2 + ["--val-data", str(class_folders)]
    assert int8_comparison.main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "(n00000000)" in printed.err


def test_files_of_other_tools_are_compared(
    demo: dict[str, Path], class_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not all(importlib.util.find_spec(name) for name in ("timm", "nncf", "openvino")):
        pytest.skip("needs timm, torchvision and nncf, which only this comparison uses")
    data = ["--val-data", str(class_folders), "--calib-data", str(class_folders)]
    arguments = [str(demo["onnx"])] * 2 + [*data, "--rounds", "1", "--peers"]
    assert int8_comparison.main(arguments) == 0
    table = table_rows(capsys.readouterr().out)
    for row in (
        ("nncf", "openvino"),
        ("nncf, TRANSFORMER", "openvino"),
        ("onnxruntime's quantize_static", "onnxruntime"),
    ):
        assert float(table[row][5].rstrip("%")) > 50
