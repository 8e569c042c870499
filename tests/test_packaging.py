"""The package has the right content, and its modules respect their layers."""

from __future__ import annotations

import ast
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
    read_config,
)

MODULES = list_modules()
PACKAGED_MODULES = {name: file for name, file in MODULES.items() if find_layer(name) != "studies"}

MAY_IMPORT_TORCH = ("tinyvit.nn", "tinyvit.runtimes.engines.executorch")
"""In the foundation and in runtimes/, only these modules import torch."""


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
    """Return whether an import breaks the layers of docs/explanation/architecture.md."""
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
        ("tinyvit.images.decoding", "torch.nn", True),
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
    assert dir(tinyvit) == sorted(tinyvit.__all__)
