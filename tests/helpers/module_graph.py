"""The imports between the modules of this repository, found by parsing and not by importing."""

from __future__ import annotations

import ast
import configparser
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

ROOT = Path(__file__).resolve().parents[2]

LAYERS = {
    "tinyvit": 0,
    "runtimes": 1,
    "bench": 2,
    "quant": 3,
    "export": 4,
    "distill": 4,
    "studies": 5,
}
"""Folder -> level of its layer. A module may import from lower levels and from its own folder."""

PACKAGED_FOLDERS = [name for name in LAYERS if name not in ("tinyvit", "studies")]
"""Top-level folders that setup.cfg maps into the package. The wheel does not contain studies/."""


@dataclass(frozen=True)
class Import:
    """One imported name.

    Attributes:
        name: Full dotted name, such as "tinyvit.errors.RequestError".
        is_for_types: Whether only type checkers import it, in a block `if TYPE_CHECKING`.
    """

    name: str
    is_for_types: bool = False


def read_config() -> configparser.ConfigParser:
    """Return the content of setup.cfg."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def list_modules() -> dict[str, Path]:
    """Return import name -> file, for every module of the package and of studies/."""
    folders = {"": ROOT / "src" / "tinyvit"}
    folders.update({name: ROOT / name for name in (*PACKAGED_FOLDERS, "studies")})
    modules = {}
    for name, folder in folders.items():
        for file in folder.rglob("*.py"):
            path_parts = file.relative_to(folder).with_suffix("").parts
            if not name and path_parts[0] in LAYERS:
                continue  # The folder is a symbolic link to one of the other folders.
            parts = [part for part in ("tinyvit", name, *path_parts) if part and part != "__init__"]
            modules[".".join(parts)] = file
    return modules


def find_layer(module: str) -> str:
    """Return the layer of a module, a key of LAYERS; "tinyvit" is the foundation."""
    _, _, inside = module.partition(".")
    folder = inside.split(".")[0]
    return folder if folder in LAYERS else "tinyvit"


def find_imports(file: Path) -> Iterator[Import]:
    """Yield every name that a file imports, anywhere in it."""
    yield from _visit(ast.parse(file.read_text(encoding="utf-8")), is_for_types=False)


def build_import_graph(modules: Mapping[str, Path]) -> dict[str, set[str]]:
    """Return, for each module, the modules that it imports.

    Imports inside functions count. Imports that only type checkers execute do not count.
    """
    graph: dict[str, set[str]] = {}
    for module, file in modules.items():
        names = [imported.name for imported in find_imports(file) if not imported.is_for_types]
        graph[module] = {target for name in names if (target := _module_of(name, modules))}
    return graph


def find_cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return a shortest cycle of imports, which begins and ends with the same module, or []."""
    cycles = [cycle for module in sorted(graph) if (cycle := _shortest_cycle(module, graph))]
    return min(cycles, key=len, default=[])


def _shortest_cycle(start: str, graph: Mapping[str, set[str]]) -> list[str]:
    """Return a shortest path from a module back to itself, by breadth-first search."""
    paths, visited = [[start]], set()
    while paths:
        path = paths.pop(0)
        for target in sorted(graph[path[-1]]):
            if target == start:
                return [*path, start]
            if target not in visited:
                visited.add(target)
                paths.append([*path, target])
    return []


def _visit(node: ast.AST, is_for_types: bool) -> Iterator[Import]:
    """Yield the imports in a node of a syntax tree and below it."""
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, is_for_types) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"relative import of {node.module}"
        yield from (Import(f"{node.module}.{alias.name}", is_for_types) for alias in node.names)
    type_block = node.body if _is_type_checking(node) else []
    for child in ast.iter_child_nodes(node):
        yield from _visit(child, is_for_types or child in type_block)


def _is_type_checking(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _module_of(name: str, modules: Mapping[str, Path]) -> str | None:
    """Return the module that an imported name is or belongs to; None outside this repository."""
    if name in modules:
        return name
    parent = name.rpartition(".")[0]
    return parent if parent in modules else None
