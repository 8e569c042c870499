"""The workflow is checked by two linters, and its steps run as on a runner.

The steps run on the demo model, with a replacement for GitHub's program `gh`.
"""

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
ZIZMOR_CONFIG = """
rules:
  unpinned-uses:
    config:
      policies:
        actions/*: ref-pin
"""
"""GitHub's own actions may be pinned by version, as in its documentation; the default of zizmor
requires hashes for all actions."""

DOWNLOAD, COMPARE = "Download the last release", "Compare with the last release"
STEPS = (
    "Export to int8 and check the accuracy",
    "Verify the artifact",
    "Measure the accuracy and the latency",
    DOWNLOAD,
    COMPARE,
)


@pytest.mark.parametrize("linter", LINTERS)
def test_the_linters_accept_the_workflow(linter: str, tmp_path: Path) -> None:
    program = shutil.which(linter, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip(f"pip install {linter}")
    config = tmp_path / "zizmor.yml"
    config.write_text(ZIZMOR_CONFIG)
    options = [str(config) if option == "CONFIG" else option for option in LINTERS[linter]]
    result = subprocess.run([program, *options, WORKFLOW], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def repository(images: Path, demo: dict[str, Path], tmp_path: Path) -> Path:
    """A user's repository: the demo checkpoint, calibration images, and class folders in val/."""
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


def write_gh(folder: Path, commands: str) -> None:
    """Write a program `gh` that runs shell commands; `$2` is its subcommand, such as "view"."""
    (folder / "gh").write_text(f"#!/bin/sh\n{commands}\n")
    (folder / "gh").chmod(0o755)


def write_gh_with_release(folder: Path, released: Path | None) -> None:
    """Write a program `gh` that knows one release with an artifact, or no release."""
    outputs = (
        {"list": "v1", "view": "model.int8.onnx", "download": ""} if released else {"list": ""}
    )
    cases = "".join(f"{command}) echo {output};;\n" for command, output in outputs.items())
    copy = f"[ $2 = download ] && cp {released} last/model.int8.onnx\n" if released else ""
    write_gh(folder, f"case $2 in\n{cases}*) exit 1;;\nesac\n{copy}exit 0")


def run_steps(
    repository: Path, steps: Sequence[str], released: Path | None
) -> dict[str, subprocess.CompletedProcess[str]]:
    """Run steps of the workflow until one fails.

    `released` is the artifact of the last release, if there is one. The result is step name ->
    finished process.
    """
    tools = repository / "tools"
    tools.mkdir(exist_ok=True)
    write_gh_with_release(tools, released)
    workflow: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, **workflow["env"], "CALIB": "calib", "VAL": "val", "PATH": path}
    results = {}
    for step in workflow["jobs"]["model"]["steps"]:
        if step.get("name") in steps:
            # GitHub runs a step that names no shell this way.
            command = ["bash", "-e", "-c", step["run"]]
            result = subprocess.run(
                command, cwd=repository, env=env, capture_output=True, text=True
            )
            results[step["name"]] = result
            if result.returncode:
                break
    return results


@pytest.mark.parametrize(
    ("gh_commands", "exit_code", "message"),
    [("echo", 0, "no release yet"), ("echo v1", 0, "has no model.int8.onnx"), ("exit 4", 4, "")],
)
def test_a_download_fails_only_if_gh_fails(
    tmp_path: Path, gh_commands: str, exit_code: int, message: str
) -> None:
    write_gh(tmp_path, gh_commands)
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["model"]["steps"]
    (script,) = (step["run"] for step in steps if step.get("name") == DOWNLOAD)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    result = subprocess.run(
        ["bash", "-e", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert result.returncode == exit_code, result.stderr
    assert message in result.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_steps_run_without_and_with_a_release(repository: Path) -> None:
    first_run = run_steps(repository, STEPS, None)
    assert len(first_run) == len(STEPS)
    assert all(step.returncode == 0 for step in first_run.values()), list(first_run.values())[-1]
    assert "nothing to compare with" in first_run[DOWNLOAD].stdout
    released = repository / "out" / "model.int8.onnx"
    comparison = run_steps(repository, (DOWNLOAD, COMPARE), released)[COMPARE]
    # On a busy machine, the same file may be measured as slower.
    assert comparison.returncode == 0 or "REGRESSION" in comparison.stdout, comparison
    assert "100.00%" in comparison.stdout
