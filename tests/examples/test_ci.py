"""The workflow, checked by two linters, and its steps run as a runner would: on the demo model, with a stand-in for GitHub's command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.image_files import save_crops

pytest.importorskip("torch", reason="exporting needs tinyvit-edge[export]")
yaml = pytest.importorskip("yaml")

WORKFLOW = Path(__file__).parents[2] / "examples" / "ci" / "tinyvit.yml"
LINTERS = {
    "check-jsonschema": ["--builtin-schema", "vendor.github-workflows"],
    "zizmor": ["--offline", "--config", "CONFIG"],
}
# GitHub's own actions by version, as its documentation shows them; zizmor wants hashes of all.
POLICY = "rules:\n  unpinned-uses:\n    config:\n      policies:\n        actions/*: ref-pin\n"


@pytest.mark.parametrize("linter", LINTERS)
def test_it_is_a_sound_workflow(linter: str, tmp_path: Path) -> None:
    program = shutil.which(linter, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip(f"pip install {linter}")
    config = tmp_path / "zizmor.yml"
    config.write_text(POLICY)
    options = [str(config) if option == "CONFIG" else option for option in LINTERS[linter]]
    done = subprocess.run([program, *options, WORKFLOW], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def repository(images: Path, demo: dict[str, Path], tmp_path: Path) -> Path:
    """A user's repository: the demo checkpoint, crops of two photographs for calibration,
    and more crops in class folders for measuring."""
    from tinyvit import Classifier
    from tinyvit import __file__ as package

    shutil.copy(
        Path(package).parent / "assets" / "demo.safetensors", tmp_path / "model.safetensors"
    )
    (tmp_path / "calib").mkdir()
    with Classifier(demo["onnx"], threads=1) as classifier:
        for crop in save_crops(images, tmp_path / "calib", 32)[::4]:
            folder = tmp_path / "val" / classifier.predict(crop)[0].wnid
            folder.mkdir(parents=True, exist_ok=True)
            crop.rename(folder / crop.name)
    return tmp_path


STEPS = (
    "Export int8, at most half a point less right than float32",
    "Verify",
    "Measure",
    "Fetch the last release",
    "Compare with the last release",
)


def run_steps(
    repository: Path, steps: Sequence[str], released: Path | None
) -> dict[str, subprocess.CompletedProcess[str]]:
    """What each of the steps printed, until one fails. released: the file that `gh release download` finds."""
    tools = repository / "tools"
    tools.mkdir(exist_ok=True)
    answers = (
        {"list": "v1", "view": "model.int8.onnx", "download": ""} if released else {"list": ""}
    )
    cases = "".join(f"{asked}) echo {said};;\n" for asked, said in answers.items())
    copy = f"[ $2 = download ] && cp {released} last/model.int8.onnx\n" if released else ""
    (tools / "gh").write_text(f"#!/bin/sh\ncase $2 in\n{cases}*) exit 1;;\nesac\n{copy}exit 0\n")
    (tools / "gh").chmod(0o755)
    workflow: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, **workflow["env"], "CALIB": "calib", "VAL": "val", "PATH": path}
    done = {}
    for step in workflow["jobs"]["model"]["steps"]:
        if step.get("name") in steps:
            shell = ["bash", "-e", "-c", step["run"]]  # as GitHub runs a step that names no shell
            done[step["name"]] = subprocess.run(
                shell, cwd=repository, env=env, capture_output=True, text=True
            )
            if done[step["name"]].returncode:
                break
    return done


@pytest.mark.parametrize(
    ("gh", "code", "said"),
    [("echo", 0, "no release yet"), ("echo v1", 0, "has no model.int8.onnx"), ("exit 4", 4, "")],
)
def test_a_release_that_cannot_be_asked_for_fails(
    tmp_path: Path, gh: str, code: int, said: str
) -> None:
    (tmp_path / "gh").write_text(f"#!/bin/sh\n{gh}\n")
    (tmp_path / "gh").chmod(0o755)
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["model"]["steps"]
    (step,) = (step["run"] for step in steps if step.get("name") == "Fetch the last release")
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-e", "-c", step], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    assert said in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_its_steps_run_without_and_with_a_release(repository: Path) -> None:
    first = run_steps(repository, STEPS, None)
    assert len(first) == len(STEPS)
    assert all(step.returncode == 0 for step in first.values()), list(first.values())[-1]
    assert "nothing to compare with" in first["Fetch the last release"].stdout
    again = run_steps(repository, STEPS[3:], repository / "out" / "model.int8.onnx")
    said = again["Compare with the last release"]
    assert said.returncode == 0 or "REGRESSION" in said.stdout, (
        said
    )  # a busy machine may call the same file slower
    assert "100.00%" in said.stdout
