"""Tables that are typed by hand state what the code does."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from xml.etree import ElementTree

import pytest
from pipeline_diagram import PALETTES, draw_diagram

from tests.helpers.module_graph import ROOT
from tinyvit import errors

pytest.importorskip("torch", reason="targets need tinyvit-edge[export]")

from tinyvit.export.cli import main
from tinyvit.export.targets import get_target, target_names

TARGETS = [get_target(name) for name in target_names()]
_PAGES = ROOT / "docs" / "reference"


def read_rows(page: str, heading: str) -> dict[str, list[str]]:
    """Return the rows of the first table after a heading: names in code -> the other cells."""
    section = (_PAGES / page).read_text(encoding="utf-8").partition(heading)[2]
    table = next(part for part in section.split("\n\n") if part.startswith("|"))
    rows: dict[str, list[str]] = {}
    for line in table.splitlines()[2:]:
        first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        for name in re.findall(r"`([^`]+)`", first):
            rows[name] = cells
    return rows


def test_the_diagram_names_every_target() -> None:
    diagram = ElementTree.fromstring(draw_diagram(PALETTES["light"]))
    texts = [element.text or "" for element in diagram.iter("{http://www.w3.org/2000/svg}text")]
    shown = {text.lower().replace(" ", "") for text in texts}
    assert [name for name in target_names() if name not in shown] == []


def test_every_exception_is_described() -> None:
    names = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.TinyViTError)
    }
    rows = read_rows("errors.md", "## Exceptions in Python")
    assert {*rows, "TinyViTError"} == names


def test_the_example_of_an_error_is_what_the_command_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (_PAGES / "errors.md").read_text(encoding="utf-8")
    (command, expected) = re.findall(r"```text\n\$ tinyvit-export (.*)\n(.*)\n```", page)[0]
    assert main(command.split()) == 1
    assert capsys.readouterr().err == f"{expected}\n"


@pytest.mark.parametrize("name", ["tinyvit", "tinyvit.runtimes", "tinyvit.export"])
def test_every_public_name_has_an_entry(name: str) -> None:
    pages = [page.read_text(encoding="utf-8") for page in sorted(_PAGES.glob("python/*.md"))]
    entries = re.findall(r"^::: (\S+)$", "\n".join(pages), re.MULTILINE)
    described = {entry.rpartition(".")[2] for entry in entries}
    assert {*import_module(name).__all__} - {"__version__", "TinyViTError"} <= described


def test_every_target_is_listed_with_its_suffix_and_extra() -> None:
    rows = read_rows("targets.md", "# Targets")
    for target in TARGETS:
        assert target.suffix in rows[target.name][0]
        assert target.extra in rows[target.name][2]


def test_the_table_states_what_each_target_offers() -> None:
    rows = read_rows("targets.md", "## What each target offers")
    for target in TARGETS:
        float16, int8, weights, preprocess = rows[target.name]
        offers = {"float16": float16, "int8": int8, "int8-weights": weights}
        for feature, cell in offers.items():
            assert cell.startswith("no" if feature in target.unsupported else "yes"), target.name
        assert ("`full`" in preprocess) == ("full" not in target.unsupported)


def test_every_name_in_the_table_of_limits_exists() -> None:
    """The column "where" names modules and their constants without "tinyvit."."""
    lines = (_PAGES / "limits.md").read_text(encoding="utf-8").splitlines()
    cells = [re.split(r"(?<!\\)\|", line)[2] for line in lines if line.startswith("|")]
    names = re.findall(r"`((?!\w+\.py`)[a-z_]+(?:\.\w+)+)`", " ".join(cells))
    assert len(names) > 40
    for name in names:
        full_name = f"tinyvit.{name.removeprefix('tinyvit.')}"
        parent, _, last = full_name.rpartition(".")
        module = import_module(parent)
        is_module = hasattr(module, "__path__") and find_spec(full_name) is not None
        assert is_module or hasattr(module, last), name
