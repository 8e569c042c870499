from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyvit.errors import MissingDependencyError, RequestError
from tinyvit.labels import Label
from tinyvit.studies import int8

onnx = pytest.importorskip("onnx")
PICTURES = {"n02123045": "cat.jpg", "n07920052": "coffee.jpg"}
"""Of the demo's classes 3, which it takes for another, and 9, which it gets right."""


@pytest.fixture
def pictures(images: Path, tmp_path: Path) -> Path:
    """One picture a class, in folders by WordNet id."""
    for wnid, name in PICTURES.items():
        (tmp_path / "pictures" / wnid).mkdir(parents=True)
        shutil.copy(images / name, tmp_path / "pictures" / wnid)
    return tmp_path / "pictures"


def only_ever(index: int, source: Path, path: Path) -> Path:
    """A file's copy that answers one class, whatever the picture."""
    model = onnx.load(source)
    name = model.graph.output[0].name
    bias = np.zeros((1, 10), np.float32)
    bias[0, index] = 1e3
    for node in model.graph.node:
        node.output[:] = ["before" if output == name else output for output in node.output]
    model.graph.initializer.append(onnx.numpy_helper.from_array(bias, "bias"))
    model.graph.node.append(onnx.helper.make_node("Add", ["before", "bias"], [name]))
    onnx.save(model, path)
    return path


def rows(text: str) -> dict[tuple[str, str], list[str]]:
    """(file, engine) -> the other cells."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    return {(row[0], row[1]): row[2:] for row in cells[2:]}


@pytest.mark.slow
def test_the_same_network_differs_in_nothing_and_another_in_what_it_gets_wrong(
    demo, pictures, tmp_path, capsys
):
    tabby = only_ever(3, demo["onnx"], tmp_path / "tabby.onnx")
    files = [str(path) for path in (demo["onnx"], tabby, demo["openvino"])]
    written = tmp_path / "table.md"
    assert (
        int8.main(
            [files[0], *files, "--val-data", str(pictures), "--rounds", "3", "--out", str(written)]
        )
        == 0
    )
    printed = capsys.readouterr().out
    table = rows(printed)
    assert rows(written.read_text()) == table
    engines = [engine for engine in ("onnxruntime", "openvino") if importlib.util.find_spec(engine)]
    for engine in engines:
        assert table["float32", engine][2:] == ["50.0%", "", "", "0.0%"]
        assert table[demo["onnx"].name, engine][0] == "1.00"
        assert table[demo["onnx"].name, engine][2:] == ["50.0%", "0 / 0", "100.0%", "0.0%"]
        assert table["tabby.onnx", engine][2:] == ["50.0%", "1 / 1", "0.0%", "0.0%"]
        assert 0.2 < float(table[demo["onnx"].name, engine][1]) < 5
    assert float(table[demo["openvino"].name, "openvino"][0]) == pytest.approx(
        1.03, abs=0.05
    )  # with the weights beside it
    assert (demo["openvino"].name, "onnxruntime") not in table
    assert (
        f"- {demo['onnx'].name} in onnxruntime and {demo['openvino'].name} in openvino: 100.0%"
        in printed
    )
    assert f"- {demo['onnx'].name} in onnxruntime and tabby.onnx in openvino: 0.0%" in printed


def test_folders_are_classes_of_the_model(pictures):
    labels = [Label("a", "n07920052"), Label("b", "n02123045"), Label("c")]
    found = int8.labeled(pictures, labels)
    assert [path.name for path in found.paths] == ["cat.jpg", "coffee.jpg"]
    assert found.classes.tolist() == [1, 0]
    with pytest.raises(RequestError, match="n07920052 is no class"):
        int8.labeled(pictures, labels[1:])


def test_what_is_missing_is_told_before_anything_is_printed(demo, pictures, capsys, monkeypatch):
    files = [str(demo["onnx"])] * 2
    assert int8.main([*files, "--val-data", str(pictures), "--peers"]) == 1
    assert (
        capsys.readouterr().err
        == "error: --peers has nothing to calibrate on: give --calib-data too\n"
    )
    monkeypatch.setitem(sys.modules, "timm", None)
    assert (
        int8.main([*files, "--val-data", str(pictures), "--peers", "--calib-data", str(pictures)])
        == 1
    )
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "timm is not installed: pip install timm" in printed.err


def test_a_missing_nncf_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingDependencyError, match="pip install nncf"):
        int8._nncf()


def test_a_file_that_is_not_ours_is_no_measure(pictures, tmp_path, demo, capsys):
    bare = onnx.load(demo["onnx"])
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "bare.onnx")
    assert (
        int8.main([str(tmp_path / "bare.onnx"), str(demo["onnx"]), "--val-data", str(pictures)])
        == 1
    )
    assert "is no float32 file of tinyvit-export" in capsys.readouterr().err


def test_other_tools_files_run_beside_ours(demo, pictures, capsys):
    if not all(importlib.util.find_spec(name) for name in ("timm", "nncf", "openvino")):
        pytest.skip("needs timm, torchvision and nncf, which are for this comparison only")
    arguments = [str(demo["onnx"])] * 2 + [
        "--val-data",
        str(pictures),
        "--calib-data",
        str(pictures),
        "--rounds",
        "1",
    ]
    assert int8.main([*arguments, "--peers"]) == 0
    table = rows(capsys.readouterr().out)
    for row in (
        ("nncf", "openvino"),
        ("nncf, TRANSFORMER", "openvino"),
        ("onnxruntime's quantize_static", "onnxruntime"),
    ):
        assert float(table[row][5].rstrip("%")) > 50
