"""A page is made for every command and subcommand, from its parser."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from command_pages import escape_markdown, list_entry_points, make_command_pages

from tests.helpers.module_graph import ROOT

USAGE_PAGE = """\
# demo make

Make a \\*thing\\*.

```text
demo make [-h] [--size {1,2}] FILE
```

## Positional arguments

`FILE`
:   The file to \\_read\\_ &lt;now&gt;.

## Options

`-h`, `--help`
:   show this help message and exit

`--size {1,2}`
:   Size of the thing (default: 2).

## Examples

```bash
demo make a.txt
demo make b.txt --size 1
```
"""


def run_demo(argv: Sequence[str] | None = None) -> int:
    if list(argv or ())[:1] == ["lazy"]:
        lazy = argparse.ArgumentParser(prog="demo lazy", description="Do it late.")
        lazy.add_argument("--late", action="store_true", help="Be late.")
        lazy.parse_args(argv)
    parser = argparse.ArgumentParser(prog="demo", description="Do one of two things.")
    subparsers = parser.add_subparsers()
    make = subparsers.add_parser(
        "make", description="Make a *thing*.", epilog="examples:\n  demo make a.txt\n"
        "  demo make b.txt --size 1", aliases=["build"],
    )  # fmt: skip
    make.add_argument("file", metavar="FILE", help="The file to _read_ <now>.")
    make.add_argument(
        "--size", choices=["1", "2"], default="2", help="Size of the thing (default: %(default)s)."
    )
    make.add_argument("--secret", help=argparse.SUPPRESS)
    group = subparsers.add_parser("group", help="do more")
    group.add_subparsers().add_parser("part", description="Do a part.")
    subparsers.add_parser("lazy", description="Do it late.")  # main makes its full parser itself
    parser.parse_args(argv)
    raise AssertionError("the command was run")


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A setup.cfg with one console script."""
    module = ModuleType("demo_of_commands")
    module.run_demo = run_demo  # type: ignore[attr-defined]  # it is what a module contains
    monkeypatch.setitem(sys.modules, "demo_of_commands", module)
    path = tmp_path / "setup.cfg"
    path.write_text(
        "[options.entry_points]\nconsole_scripts =\n    demo = demo_of_commands:run_demo\n"
    )
    return path


def test_every_subcommand_has_a_page(config_file: Path) -> None:
    pages = make_command_pages(config_file)
    assert [(page.words, page.path) for page in pages] == [
        ((), "reference/commands/index.md"),
        (("demo",), "reference/commands/demo/index.md"),
        (("demo", "make"), "reference/commands/demo/make.md"),
        (("demo", "group"), "reference/commands/demo/group/index.md"),
        (("demo", "group", "part"), "reference/commands/demo/group/part.md"),
        (("demo", "lazy"), "reference/commands/demo/lazy.md"),
    ]
    assert "| [demo make](demo/make.md) | Make a \\*thing\\*. |" in pages[0].text
    assert "| [demo group](group/index.md) | Do more. |" in pages[1].text


def test_a_page_has_the_usage_the_arguments_and_the_examples(config_file: Path) -> None:
    pages = {page.words: page.text for page in make_command_pages(config_file)}
    assert pages["demo", "make"] == USAGE_PAGE
    assert "`--late`\n:   Be late." in pages["demo", "lazy"]


def test_the_commands_of_the_package_have_pages() -> None:
    pages = {page.words: page.text for page in make_command_pages(ROOT / "setup.cfg")}
    assert {words[0] for words in pages if words} == set(list_entry_points(ROOT / "setup.cfg"))
    assert "`--target" in pages["tinyvit-export",]
    assert "`--threads" in pages["tinyvit-bench", "latency"]
    assert ("tinyvit-distill", "train") in pages


def test_markup_in_a_help_text_is_shown() -> None:
    assert escape_markdown("a|b `c` [d] <e> & #f") == r"a\|b \`c\` \[d\] &lt;e&gt; &amp; \#f"
