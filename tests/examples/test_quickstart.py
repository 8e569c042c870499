"""The quickstart runs as a script and as a notebook in a folder without artifacts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.hostile_text import HOSTILE_TEXT, has_control_characters
from tests.helpers.scripts import load_script
from tests.helpers.small_classifiers import (
    CLASSES,
    add_golden_vectors,
    make_manifest,
    make_network,
    save_onnx,
)
from tinyvit.labels import Label

pytest.importorskip("torch", reason="exporting needs tinyvit-edge[export]")

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "examples" / "quickstart"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder with nothing but the examples in it."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def assert_all_steps_ran(output: str) -> None:
    """Fail unless the classification, the verification and the measurement printed a result."""
    assert "espresso" in output.splitlines()[0]
    assert "verified to within" in output
    assert " ms in onnxruntime" in output


def test_the_script_exports_classifies_verifies_and_measures(repository: Path) -> None:
    result = subprocess.run(
        [sys.executable, "examples/quickstart/quickstart.py"],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert_all_steps_ran(result.stdout)
    assert (repository / "demo.onnx").is_file()


def test_labels_of_a_stranger_are_escaped(repository: Path) -> None:
    pytest.importorskip("onnx")
    network = make_network("host", 1)
    manifest = make_manifest("host", 1)
    bare = save_onnx(repository / "bare.onnx", network, None)
    manifest = add_golden_vectors(manifest, bare, "host", 1)
    labels = tuple(Label(f"{number}{HOSTILE_TEXT}", "") for number in range(CLASSES))
    save_onnx(repository / "demo.onnx", network, replace(manifest, labels=labels))
    result = subprocess.run(
        [sys.executable, "examples/quickstart/quickstart.py"],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "\\x1b[2J" in result.stdout
    assert len(result.stdout.splitlines()) == 5  # three labels, the verification, the latency
    assert not has_control_characters(result.stdout)


def test_the_notebook_is_made_from_the_script() -> None:
    notebook = json.loads((QUICKSTART / "quickstart.ipynb").read_text())
    script = (QUICKSTART / "quickstart.py").read_text()
    cells = load_script(QUICKSTART / "notebook.py").make_cells(script)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    assert notebook["cells"] == cells, "run examples/quickstart/notebook.py"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, demo: dict[str, Path]) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    # A notebook runs in its own folder.
    shutil.copytree(QUICKSTART, tmp_path / "quickstart")
    (tmp_path / "images").symlink_to(ROOT / "examples" / "images")
    (tmp_path / "quickstart" / "demo.onnx").write_bytes(demo["onnx"].read_bytes())
    notebook = nbformat.read(QUICKSTART / "quickstart.ipynb", as_version=4)
    nbformat.validate(notebook)
    resources = {"metadata": {"path": str(tmp_path / "quickstart")}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert_all_steps_ran(
        "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    )


def test_the_script_is_short() -> None:
    assert len((QUICKSTART / "quickstart.py").read_text().splitlines()) < 30
