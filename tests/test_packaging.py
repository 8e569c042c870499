"""The wheel and the base install have the right content, and modules respect their layers."""

from __future__ import annotations

import ast
import configparser
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.module_graph import (
    LAYERS,
    PACKAGED_FOLDERS,
    ROOT,
    Import,
    build_import_graph,
    find_cycle,
    find_imports,
    find_layer,
    list_modules,
)

MODULES = list_modules()
PACKAGED_MODULES = {name: file for name, file in MODULES.items() if find_layer(name) != "studies"}

MAY_IMPORT_TORCH = ("tinyvit.nn", "tinyvit.runtimes.engines.executorch")
"""In the foundation and in runtimes/, only these modules import torch."""


def read_config() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_packages_are_the_folders_on_disk() -> None:
    options = read_config()["options"]
    on_disk = {name for name, file in PACKAGED_MODULES.items() if file.name == "__init__.py"}
    assert set(options["packages"].split()) == on_disk
    lines = [line for line in options["package_dir"].splitlines() if not line.startswith("=")]
    mapping = dict(line.split(" = ") for line in lines if line)
    assert mapping == {f"tinyvit.{name}": name for name in PACKAGED_FOLDERS}


@pytest.mark.parametrize("name", [*PACKAGED_FOLDERS, "studies"])
def test_top_level_folders_are_linked_into_the_package(name: str) -> None:
    assert (ROOT / "src" / "tinyvit" / name).resolve() == ROOT / name


def is_forbidden(module: str, imported: Import) -> bool:
    """Return whether an import breaks the layers that docs/architecture.md describes."""
    layer, other = find_layer(module), find_layer(imported.name)
    if imported.name.split(".")[0] == "torch":
        return layer in ("tinyvit", "runtimes") and not module.startswith(MAY_IMPORT_TORCH)
    if not imported.name.startswith("tinyvit") or other == layer:
        return False
    return LAYERS[other] >= LAYERS[layer]


def test_modules_import_only_from_lower_layers() -> None:
    violations = [
        f"{module} imports {imported.name}"
        for module, file in MODULES.items()
        if module != "tinyvit"  # imports Classifier from runtimes/ when it is first used
        for imported in find_imports(file)
        if is_forbidden(module, imported)
    ]
    assert violations == []


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("tinyvit.runtimes.cli", "tinyvit.studies.figures", True),
        ("tinyvit.export.cli", "tinyvit.studies.figures", True),
        ("tinyvit.studies.figures", "tinyvit.export.export", False),
        ("tinyvit.export.cli", "tinyvit.distill.cli", True),
        ("tinyvit.quant.recipe", "tinyvit.bench.record", False),
        ("tinyvit.bench.record", "tinyvit.quant.recipe", True),
        ("tinyvit.images", "torch.nn", True),
        ("tinyvit.nn.model", "torch.nn", False),
    ],
)
def test_forbidden_imports_are_recognized(module: str, name: str, expected: bool) -> None:
    assert is_forbidden(module, Import(name)) == expected


def test_no_modules_import_each_other() -> None:
    assert find_cycle(build_import_graph(MODULES)) == []


def test_cycles_of_any_length_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"d"}, "d": {"b"}, "e": {"a"}}
    assert find_cycle(graph) == ["b", "d", "b"]
    assert find_cycle({**graph, "b": {"c"}}) == ["b", "c", "d", "b"]
    assert find_cycle({**graph, "d": set()}) == []


def test_imports_for_type_checkers_are_recognized(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(
        "import a\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n"
        "    import b\n"
        "else:\n"
        "    import c\n"
        "class C:\n"
        "    from d import e\n"
        "    def method(self):\n"
        "        import f\n"
    )
    imports = list(find_imports(tmp_path / "module.py"))
    assert [imported.name for imported in imports] == [
        *("a", "typing.TYPE_CHECKING", "b", "c", "d.e", "f")
    ]
    assert [imported.name for imported in imports if imported.is_for_types] == ["b"]


def test_no_code_compares_with_the_name_of_a_target() -> None:
    """A target's name is compared nowhere outside the target's own folder.

    In runtimes/, "onnx" is also the name of a file format.
    """
    from tinyvit.export import targets

    comparisons = [
        f"{name}:{node.lineno}"
        for name, file in MODULES.items()
        if find_layer(name) != "runtimes"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        and {getattr(side, "value", None) for side in (node.left, *node.comparators)}
        & {*targets.target_names()}
    ]
    assert comparisons == []


def test_public_names_exist() -> None:
    import tinyvit

    assert all(getattr(tinyvit, name) for name in tinyvit.__all__)


@pytest.fixture(scope="session")
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


def run_code(python: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in an environment without this repository on its path."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [python, "-W", "ignore", "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=python.parent,
        env=environment,
    )


def run_command(python: Path, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command that is installed beside an interpreter."""
    command = [python.parent / name, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


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
    "tinyvit.export.budget_search",
    "tinyvit.export.network_preparation",
    "tinyvit.export.pipeline",
    "tinyvit.export.quantized_candidate",
    "tinyvit.export.source_network",
    "tinyvit.export.workspace",
    "tinyvit.export.targets.coreml.preprocess",
}


def test_every_module_imports_in_the_base_install_or_names_its_extra(base_python: Path) -> None:
    process = run_code(base_python, IMPORT_ALL, *PACKAGED_MODULES)
    assert process.returncode == 0, process.stderr
    errors = json.loads(process.stdout)
    for name, message in errors.items():
        extra = "train" if "distill" in name else "export"
        assert f"pip install 'tinyvit-edge[{extra}]'" in message
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
    base_python: Path, demo: dict[str, Path]
) -> None:
    verify = run_command(base_python, "tinyvit-verify", demo["openvino"])
    assert verify.returncode == 1
    assert "pip install 'tinyvit-edge[openvino]'" in verify.stderr
    export = run_command(base_python, "tinyvit-export", "--model", "demo")
    assert export.returncode == 1
    assert "pip install 'tinyvit-edge[export]'" in export.stderr
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
