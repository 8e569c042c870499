"""A page is made for every command and subcommand, from its parser."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import command_pages
import pytest
import reference_pages
from command_epilog import escape_markdown, format_epilog, wrap_command
from command_pages import list_entry_points, make_command_pages
from command_usage import USAGE_WIDTH, format_usage

from tests.helpers.module_graph import ROOT
from tinyvit import command_parser

USAGE_PAGE = """\
# demo make

Make a \\*thing\\*.

```text
demo make [-h] [--size {1,2}] FILE
```

## Positional arguments

- `FILE`

    The file to \\_read\\_ &lt;now&gt;.

## Options

- `-h`, `--help`

    show this help message and exit

- `--size {1,2}`

    Size of the thing (default: 2).

## Examples

```bash
demo make a.txt
demo make b.txt --size 1
```
"""


def run_other(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="demo-other", description="Do something else.")
    parser.parse_args(argv)
    raise AssertionError("the command was run")


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
    subparsers.add_parser("other", description="Do something else.")  # it is also a program
    parser.parse_args(argv)
    raise AssertionError("the command was run")


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A setup.cfg with two console scripts."""
    module = ModuleType("demo_of_commands")
    vars(module).update(run_demo=run_demo, run_other=run_other)
    monkeypatch.setitem(sys.modules, "demo_of_commands", module)
    path = tmp_path / "setup.cfg"
    path.write_text(
        "[options.entry_points]\nconsole_scripts =\n    demo = demo_of_commands:run_demo\n"
        "    demo-other = demo_of_commands:run_other\n"
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
        (("demo-other",), "reference/commands/demo-other.md"),
    ]
    assert "| [demo make](demo/make.md) | Make a \\*thing\\*. |" in pages[0].text
    assert "| [demo group](group/index.md) | Do more. |" in pages[1].text
    assert "| [demo other](../demo-other.md) | Do something else. |" in pages[1].text


def test_a_page_has_the_usage_the_arguments_and_the_examples(config_file: Path) -> None:
    pages = {page.words: page.text for page in make_command_pages(config_file)}
    assert pages["demo", "make"] == USAGE_PAGE
    assert "- `--late`\n\n    Be late." in pages["demo", "lazy"]


def test_a_usage_is_wrapped_and_shows_which_options_exclude_each_other() -> None:
    parser = argparse.ArgumentParser(prog="ignored", add_help=False)
    parser.add_argument("--needed", required=True)
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("--local", action="store_true")
    either.add_argument("--hidden", help=argparse.SUPPRESS)
    either.add_argument("--device", "-d", nargs="?", metavar="NAME")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--one", action="store_true")
    group.add_argument("--two", action="store_true")
    parser.add_argument("--names", nargs=2, metavar=("FIRST", "SECOND"))
    parser.add_argument("file", nargs="*", metavar="FILE")
    assert format_usage(parser, ("a", "b")) == (
        "a b --needed NEEDED (--local | --device [NAME]) [--one | --two]\n"
        "    [--names FIRST SECOND] [FILE ...]"
    )


@pytest.mark.parametrize("path", reference_pages.make_files(), ids=lambda path: path.stem)
def test_the_committed_pages_are_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, run `python docs/tools/reference_pages.py`."""
    monkeypatch.setenv("COLUMNS", "40")
    text = path.read_text(encoding="utf-8")
    assert text == reference_pages.make_files()[path]
    usage = text.partition("```text\n")[2].partition("\n```")[0]
    assert [line for line in usage.splitlines() if len(line) > USAGE_WIDTH] == []


def test_every_committed_page_has_a_command() -> None:
    """If this fails, delete the pages of commands that no longer exist."""
    assert reference_pages.list_orphans() == []


def test_pages_of_commands_need_no_extra() -> None:
    """So the pages do not depend on what is installed."""
    tools = str(ROOT / "docs" / "tools")
    program = (
        f"import sys; sys.path.insert(0, {tools!r}); import reference_pages;"
        " reference_pages.make_files(); print(*sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    extras = {"torch", "onnx", "matplotlib", "openvino", "timm", "executorch", "coremltools"}
    assert extras.intersection(output.stdout.decode().split()) == set()


def test_the_commands_of_the_package_have_pages() -> None:
    pages = {page.words: page.text for page in make_command_pages(ROOT / "setup.cfg")}
    assert {words[0] for words in pages if words} == set(list_entry_points(ROOT / "setup.cfg"))
    assert "`--target" in pages["tinyvit-export",]
    assert "`--threads" in pages["tinyvit-bench", "latency"]
    assert ("tinyvit-distill", "train") in pages


def test_the_end_of_a_help_text_has_commands_paragraphs_and_tables() -> None:
    epilog = (
        "examples:\n  demo a\n  demo b\n\nMore _words_\nhere.\n\nexit codes:\n  0  good\n  1  bad\n"
    )
    assert format_epilog(epilog) == [
        "## Examples",
        "```bash\ndemo a\ndemo b\n```",
        r"More \_words\_ here.",
        "## Exit codes",
        "```text\n0  good\n1  bad\n```",
    ]


def test_a_long_command_is_continued_before_an_option() -> None:
    assert (
        wrap_command(f"demo {'a' * 50} --size 1 {'b' * 15}")
        == f"demo {'a' * 50} --size 1 {'b' * 15}"
    )
    long = f"demo {'a' * 50} --size 1 {'b' * 16} > out.json"
    assert wrap_command(long) == f"demo {'a' * 50} \\\n    --size 1 {'b' * 16} > out.json"
    assert wrap_command(f"        {'a' * 70} -o b \\") == f"        {'a' * 70} \\\n        -o b \\"


def test_markup_in_a_help_text_is_shown() -> None:
    assert escape_markdown("a|b `c` [d] <e> & #f") == r"a\|b \`c\` \[d\] &lt;e&gt; &amp; \#f"


def walk_parsers(
    entry_point: str, parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[argparse.ArgumentParser]:
    """Yield the parser of a command, and those of its subcommands."""
    yield parser
    for name, subparser in command_pages._find_subparsers(parser).items():
        arguments = (*words, name)
        completed = command_pages._complete_subparser(entry_point, subparser, arguments)
        yield from walk_parsers(entry_point, completed, arguments)


def test_options_with_several_values_can_be_repeated() -> None:
    """Otherwise the values of all but the last one would be ignored silently."""
    options = {
        (parser.prog, action.option_strings[0]): type(action)
        for entry_point in list_entry_points(ROOT / "setup.cfg").values()
        for parser in walk_parsers(entry_point, command_pages.capture_parser(entry_point))
        for action in parser._actions
        if action.option_strings and action.nargs in ("+", "*")
    }
    assert ("tinyvit-export", "--target") in options
    assert ("tinyvit-bench latency", "--threads") in options
    assert set(options.values()) == {command_parser._StoreAction}
