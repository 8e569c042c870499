"""The base install, in a new environment, is small and has what a device needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.module_graph import ROOT, find_layer, list_modules, read_config

pytestmark = pytest.mark.slow

PACKAGED_MODULES = [name for name in list_modules() if find_layer(name) != "studies"]


@pytest.fixture(scope="module")
def base_python(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with the base install of this repository."""
    folder = tmp_path_factory.mktemp("base")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    install = subprocess.run(
        [*pip, "-c", ROOT / "constraints.txt", source_tree], capture_output=True, text=True
    )
    if install.returncode and not os.environ.get("CI"):
        reason = install.stderr.strip().splitlines()[-1]
        pytest.skip(f"the base install needs a package registry: {reason}")
    assert install.returncode == 0, install.stderr
    return python


def make_environment() -> dict[str, str]:
    """Return the environment variables without the one that makes this repository importable."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def run_code(python: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in an environment without this repository on its path."""
    return subprocess.run(
        [python, "-W", "ignore", "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=python.parent,
        env=make_environment(),
    )


def run_command(python: Path, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command that is installed beside an interpreter."""
    command = [python.parent / name, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=make_environment())


def test_base_install_is_small(base_python: Path) -> None:
    code = "from importlib import metadata; print(*(d.name for d in metadata.distributions()))"
    installed = {name.lower() for name in run_code(base_python, code).stdout.split()}
    assert {"tinyvit-edge", "numpy", "pillow", "onnxruntime"} <= installed
    heavy = {"torch", "onnx", "openvino", "safetensors", "huggingface_hub", "onnxscript"}
    assert not heavy & installed
    requirements = read_config()["options"]["install_requires"].split()
    names = [line.split(">")[0] for line in requirements]
    assert names == ["numpy", "pillow", "onnxruntime", "flatbuffers", "protobuf"]


IMPORT_ALL = """
import importlib, json, sys
from tinyvit.errors import MissingDependencyError
errors = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except MissingDependencyError as error:
        errors[name] = str(error)
print(json.dumps(errors))
"""

TORCH_FOLDERS = (
    "tinyvit.nn",
    "tinyvit.quant",
    "tinyvit.distill.logits",
    "tinyvit.distill.training",
)
TORCH_MODULES = {
    "tinyvit.export.artifact_writer",
    "tinyvit.export.int8.budget_search",
    "tinyvit.export.export_results",
    "tinyvit.export.network_preparation",
    "tinyvit.export.pipeline",
    "tinyvit.export.int8.quantized_candidate",
    "tinyvit.export.int8.search_outcome",
    "tinyvit.export.int8.shared_measurements",
    "tinyvit.export.workers.side_by_side",
    "tinyvit.export.source_network",
    "tinyvit.export.workers.target_processes",
    "tinyvit.export.workers.target_worker",
    "tinyvit.export.workspace",
    "tinyvit.export.targets.coreml.preprocess",
}


def test_every_module_imports_in_the_base_install_or_names_its_extra(
    base_python: Path, source_tree: Path
) -> None:
    process = run_code(base_python, IMPORT_ALL, *PACKAGED_MODULES)
    assert process.returncode == 0, process.stderr
    errors = json.loads(process.stdout)
    for name, message in errors.items():
        extra = "train" if "distill" in name else "export"
        assert message.endswith(f": {base_python} -m pip install '{source_tree}[{extra}]'")
    in_torch_folders = {name for name in PACKAGED_MODULES if name.startswith(TORCH_FOLDERS)}
    assert errors.keys() <= in_torch_folders | TORCH_MODULES


def test_the_wheel_has_no_studies(base_python: Path) -> None:
    process = run_code(base_python, "import tinyvit.studies")
    assert "ModuleNotFoundError" in process.stderr


def test_base_install_classifies_and_verifies(
    base_python: Path, demo: dict[str, Path], images: Path
) -> None:
    predict = run_command(base_python, "tinyvit-predict", demo["onnx"], images / "coffee.jpg")
    assert predict.returncode == 0, predict.stderr
    assert "espresso" in predict.stdout
    verify = run_command(base_python, "tinyvit-verify", demo["onnx"])
    assert verify.returncode == 0, verify.stdout + verify.stderr


def test_base_install_names_the_extra_that_a_command_needs(
    base_python: Path, source_tree: Path, demo: dict[str, Path]
) -> None:
    verify = run_command(base_python, "tinyvit-verify", demo["openvino"])
    assert verify.returncode == 1
    # Running needs the engine alone.
    assert f": {base_python} -m pip install 'openvino>=" in verify.stderr
    export = run_command(base_python, "tinyvit-export", "--model", "demo")
    assert export.returncode == 1
    assert f"{base_python} -m pip install '{source_tree}[export]'" in export.stderr
    assert "Traceback" not in export.stderr
    assert "tiny_vit_21m_512" in run_command(base_python, "tinyvit-export", "--list").stdout


def test_import_loads_nothing_heavy(base_python: Path) -> None:
    """`import tinyvit` must take almost no time, which the loaded modules show without a clock."""
    code = """
import sys
import tinyvit
loaded = {name.split('.')[0] for name in sys.modules}
print(*sorted(loaded & {'numpy', 'PIL', 'onnxruntime', 'json'}))
"""
    process = run_code(base_python, code)
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == []
