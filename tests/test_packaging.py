"""The house: what is installed, what imports what, and what the base install can do."""

from __future__ import annotations

import ast
import configparser
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FLOORS = {
    "tinyvit": 0,
    "runtimes": 1,
    "bench": 2,
    "quant": 3,
    "export": 4,
    "distill": 4,
    "studies": 5,
}
MAPPED = [name for name in FLOORS if name not in ("tinyvit", "studies")]


def config() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def modules() -> dict[str, Path]:
    """Every module of the package by its import name."""
    found = {}
    for name, folder in {
        "": ROOT / "src" / "tinyvit",
        **{name: ROOT / name for name in (*MAPPED, "studies")},
    }.items():
        for file in folder.rglob("*.py"):
            inside = file.relative_to(folder).with_suffix("").parts
            if not name and inside[0] in FLOORS:
                continue  # a symlink to a mapped folder
            parts = [part for part in ("tinyvit", name, *inside) if part and part != "__init__"]
            found[".".join(parts)] = file
    return found


def test_packages_are_the_folders_on_disk():
    listed = set(config()["options"]["packages"].split())
    on_disk = {
        name
        for name, file in modules().items()
        if file.name == "__init__.py" and not name.startswith("tinyvit.studies")
    }
    assert listed == on_disk
    mapped = dict(
        line.split(" = ")
        for line in config()["options"]["package_dir"].splitlines()
        if line and not line.startswith("=")
    )
    assert mapped == {f"tinyvit.{name}": name for name in MAPPED}
    assert all((ROOT / "src" / "tinyvit" / name).resolve() == ROOT / name for name in MAPPED)


def floor(module: str) -> str:
    second = module.split(".")[1] if "." in module else "tinyvit"
    return second if second in FLOORS else "tinyvit"


def test_imports_point_down():
    wrong = []
    for module, file in modules().items():
        if module == "tinyvit":
            continue  # hands Classifier on, lazily
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: relative import"
                names = [f"{node.module}.{a.name}" for a in node.names]
            for name in names:
                home, there = floor(module), floor(name)
                if name.startswith("tinyvit") and home != there and FLOORS[there] >= FLOORS[home]:
                    wrong.append(f"{module} imports {name}")
                if (
                    name.split(".")[0] == "torch"
                    and home == "runtimes"
                    and module != "tinyvit.runtimes.engines.executorch"
                ):
                    wrong.append(f"{module} imports torch")
                if (
                    name.split(".")[0] == "torch"
                    and home == "tinyvit"
                    and not module.startswith("tinyvit.nn")
                ):
                    wrong.append(f"{module} imports torch")
    assert wrong == []


def test_no_target_is_singled_out():
    """DESIGN: a target's name is compared with nowhere but in that target's own file."""
    from tinyvit.export import targets

    compared = [
        f"{name}:{node.lineno}"
        for name, file in modules().items()
        if floor(name) != "runtimes"  # where "onnx" is a file format
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        and {getattr(side, "value", None) for side in (node.left, *node.comparators)}
        & {*targets.target_names()}
    ]
    assert compared == []


def test_symbols_promised_are_there():
    import tinyvit

    assert all(getattr(tinyvit, name) for name in tinyvit.__all__)


@pytest.fixture(scope="session")
def bare(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of a new environment with the base install: a wheel's content, not this folder's."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    command = [
        python,
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "-c",
        ROOT / "constraints.txt",
        source,
    ]
    installed = subprocess.run(command, capture_output=True, text=True)
    if installed.returncode and not os.environ.get("CI"):
        pytest.skip(
            f"the base install needs a package registry: {installed.stderr.strip().splitlines()[-1]}"
        )
    assert installed.returncode == 0, installed.stderr
    return python


def run(python: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [python, "-W", "ignore", "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=python.parent,
        env=environment,
    )


def test_base_install_is_small(bare: Path):
    code = "from importlib import metadata; print(*(d.name for d in metadata.distributions()))"
    found = {name.lower() for name in run(bare, code).stdout.split()}
    assert {"tinyvit-edge", "numpy", "pillow", "onnxruntime"} <= found
    assert not {"torch", "onnx", "openvino", "safetensors", "huggingface_hub", "onnxscript"} & found
    asked = [line.split(">")[0] for line in config()["options"]["install_requires"].split()]
    assert asked == ["numpy", "pillow", "onnxruntime"]


def test_every_module_imports_in_the_base_install_or_names_its_extra(bare: Path):
    code = """
import importlib, json, sys
from tinyvit.errors import MissingDependencyError
said = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        said[name] = ""
    except MissingDependencyError as error:
        said[name] = str(error)
print(json.dumps(said))
"""
    done = run(bare, code, *modules())
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    needs_torch = {name for name, error in said.items() if error}
    assert all(
        f"pip install 'tinyvit-edge[{'train' if 'distill' in name else 'export'}]'" in said[name]
        for name in needs_torch
    )
    whole = ("tinyvit.nn", "tinyvit.quant", "tinyvit.distill.logits", "tinyvit.distill.training")
    assert needs_torch <= {name for name in modules() if name.startswith(whole)} | {
        "tinyvit.export.artifact_writer",
        "tinyvit.export.budget_search",
        "tinyvit.export.network_preparation",
        "tinyvit.export.pipeline",
        "tinyvit.export.source_network",
        "tinyvit.export.workspace",
        "tinyvit.export.targets.coreml.preprocess",
    }


def test_base_install_classifies_and_verifies(bare: Path, demo: dict[str, Path], images: Path):
    scripts = bare.parent
    done = subprocess.run(
        [scripts / "tinyvit-predict", demo["onnx"], images / "coffee.jpg"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "espresso" in done.stdout
    done = subprocess.run(
        [scripts / "tinyvit-verify", demo["onnx"]], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(
        [scripts / "tinyvit-verify", demo["openvino"]], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "pip install 'tinyvit-edge[openvino]'" in done.stderr
    done = subprocess.run(
        [scripts / "tinyvit-export", "--model", "demo"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "pip install 'tinyvit-edge[export]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert (
        "tiny_vit_21m_512"
        in subprocess.run(
            [scripts / "tinyvit-export", "--list"], capture_output=True, text=True
        ).stdout
    )


def test_import_brings_nothing_heavy(bare: Path):
    """`import tinyvit` must cost next to nothing; what is loaded says so without a clock."""
    code = "import sys; import tinyvit; print(*sorted({name.split('.')[0] for name in sys.modules} & {'numpy', 'PIL', 'onnxruntime', 'json'}))"
    assert run(bare, code).stdout.split() == []
