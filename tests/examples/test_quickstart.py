"""The quickstart, as a script and as a notebook, run as a user runs it: with nothing exported yet."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.scripts import load_script

pytest.importorskip("torch", reason="exporting needs tinyvit-edge[export]")

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "examples" / "quickstart"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """An empty folder with the examples in it."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def holds(printed: str) -> None:
    """Fails unless all four steps answered."""
    assert "espresso" in printed.splitlines()[0]
    assert "verified to within" in printed
    assert " ms in onnxruntime" in printed


def test_the_script_exports_classifies_verifies_and_measures(elsewhere: Path) -> None:
    done = subprocess.run(
        [sys.executable, "examples/quickstart/quickstart.py"],
        cwd=elsewhere,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    holds(done.stdout)
    assert (elsewhere / "demo.onnx").is_file()


def test_the_notebook_is_the_script_and_runs(elsewhere: Path, demo: dict[str, Path]) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    made = load_script(QUICKSTART / "notebook.py")
    kept = json.loads((QUICKSTART / "quickstart.ipynb").read_text())
    assert kept["cells"] == made.cells((QUICKSTART / "quickstart.py").read_text()), (
        "run examples/quickstart/notebook.py"
    )
    there = elsewhere / "there"  # a notebook's kernel starts in its own folder
    shutil.copytree(QUICKSTART, there / "quickstart")
    (there / "images").symlink_to(ROOT / "examples" / "images")
    (there / "quickstart" / "demo.onnx").write_bytes(demo["onnx"].read_bytes())
    notebook = nbformat.read(QUICKSTART / "quickstart.ipynb", as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(there / "quickstart")}}
    ).execute()
    holds(
        "".join(
            out["text"]
            for cell in notebook.cells
            for out in cell.get("outputs", [])
            if out.get("name") == "stdout"
        )
    )


def test_the_script_is_short() -> None:
    assert len((QUICKSTART / "quickstart.py").read_text().splitlines()) < 30
