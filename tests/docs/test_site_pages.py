"""Pages, links and diagrams of the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pipeline_diagram
import pytest
from check_links import find_broken_links
from command_epilog import LINE_WIDTH
from site_links import rewrite_links

from tests.helpers.module_graph import ROOT

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLE_PAGES = sorted((ROOT / "examples").glob("*/README.md"))
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)\s]*)?\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
COMMANDS = re.compile(r"^ *```bash\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
PACKAGE_FOLDERS = ("src/tinyvit", "export", "runtimes", "quant", "bench", "distill", "studies")


def name_page(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [*PAGES, *EXAMPLE_PAGES], ids=name_page)
def test_links_lead_to_files(path: Path) -> None:
    text = CODE.sub("", path.read_text(encoding="utf-8"))
    targets = [(path.parent / target).resolve() for target in LINK.findall(text)]
    assert [str(target) for target in targets if not target.exists()] == []


@pytest.mark.parametrize("path", [*PAGES, *EXAMPLE_PAGES], ids=name_page)
def test_no_page_names_a_path_of_one_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"/(?:work|root|home/(?!me/|pi/))\b[\w/]*|/tmp/(?!base|ray)\w+", text) == []


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=name_page)
def test_commands_are_short_enough_for_the_site(path: Path) -> None:
    blocks = COMMANDS.findall(path.read_text(encoding="utf-8"))
    lines = [line for block in blocks for line in block.splitlines() if "://" not in line]
    assert [line for line in lines if len(line) > LINE_WIDTH] == []


def test_pages_that_the_code_names_exist() -> None:
    """Help texts and docstrings name pages of this repository, such as docs/reference/limits.md."""
    named = {
        page
        for folder in PACKAGE_FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for page in re.findall(r"(?<![\w/])docs/[\w/-]+\.md(?! in https:)", path.read_text("utf-8"))
    }
    assert len(named) > 10
    assert [page for page in sorted(named) if not (ROOT / page).exists()] == []


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs") for path in PAGES if ROOT / "docs" in path.parents]
    assert [str(page) for page in pages if f" {page.as_posix()}\n" not in navigation] == []


def test_the_readme_is_short_and_begins_with_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert len(text.split()) < 1200
    first, second = re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert ".venv/bin/tinyvit-predict demo.onnx examples/images/cat.jpg" in first
    assert second.endswith(".venv/bin/python -m pytest -n 2 --dist loadfile\n")


@pytest.mark.parametrize("name", pipeline_diagram.PALETTES)
def test_the_diagram_is_up_to_date(name: str) -> None:
    """If this fails, run `python docs/tools/pipeline_diagram.py`."""
    path = pipeline_diagram.FOLDER / f"pipeline-{name}.svg"
    text = pipeline_diagram.draw_diagram(pipeline_diagram.PALETTES[name])
    assert path.read_text(encoding="utf-8") == text
    root = ElementTree.fromstring(text)
    shown = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "tinyvit-export" in shown
    assert "OpenVINO" in shown


@pytest.mark.parametrize(
    ("link", "page", "expected"),
    [
        ("[a](int8.md#why)", "docs/explanation/security.md", "[a](int8.md#why)"),
        ("[a](../../SECURITY.md)", "docs/explanation/security.md", "[a](../SECURITY.md)"),
        ("[a](../../examples/web/README.md)", "docs/how-to/x.md", "[a](../examples/web.md)"),
        ("[a](../images)", "examples/web/README.md", "[a](images.md)"),
        ("[a](../../docs/index.md)", "examples/web/README.md", "[a](../index.md)"),
        ("[a](src/main.js)", "examples/web/README.md", "[a](web/src/main.js)"),
        ("[a](index.html)", "examples/web/README.md", "[a](web/index.html.txt)"),
        ("![a](../../docs/images/web.png)", "examples/web/README.md", "![a](../images/web.png)"),
        ("[a](docs/index.md)", "SECURITY.md", "[a](index.md)"),
        ("[a](images/x.svg#only-light)", "docs/index.md", "[a](images/x.svg#only-light)"),
        ("`[a](../../b.md)`", "docs/how-to/x.md", "`[a](../../b.md)`"),
        ("[a](https://example.org/b)", "docs/how-to/x.md", "[a](https://example.org/b)"),
        ("[a](#b)", "docs/how-to/x.md", "[a](#b)"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(
    link: str, page: str, expected: str
) -> None:
    assert rewrite_links(link, page) == expected


def test_broken_links_of_a_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "index.html").write_text(
        '<h1 id="top">A</h1><a href="sub/">b</a><a href="sub/index.html#there">c</a>'
        '<a href="#top">d</a><a href="https://example.org/">e</a>'
        '<a href="#missing">f</a><img src="missing.png"><a href="sub/index.html#no">g</a>'
    )
    (tmp_path / "sub" / "index.html").write_text('<p id="there"></p><a href="../../out.html">h</a>')
    (tmp_path.parent / "out.html").touch()
    assert list(find_broken_links(tmp_path)) == [
        "index.html: #missing",
        "index.html: missing.png",
        "index.html: sub/index.html#no",
        "sub/index.html: ../../out.html",
    ]
