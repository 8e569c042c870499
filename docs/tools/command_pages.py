"""Makes a reference page for every command from its argument parser.

The commands are the console scripts in setup.cfg. `reference_pages.py` writes the pages.

The text is made from the arguments in the parser, and not from argparse's help, whose usage and
line breaks depend on the version of Python and on the width of the terminal.
"""

from __future__ import annotations

import argparse
import configparser
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

from command_epilog import escape_markdown, format_epilog
from command_usage import format_usage, format_value

FOLDER = "reference/commands"
"""Folder of the pages in the site."""


@dataclass(frozen=True)
class CommandPage:
    """A page about one command or subcommand.

    Attributes:
        words: The words that start the command, such as ("tinyvit-bench", "latency").
        path: Path of the page in the site's folder of sources.
        text: The page in Markdown.
    """

    words: tuple[str, ...]
    path: str
    text: str


class _ParserCaptured(Exception):
    """Raised instead of parsing arguments.

    Attributes:
        parser: The parser that was about to parse them.
    """

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def list_entry_points(config_file: Path) -> dict[str, str]:
    """Read the console scripts of the package.

    Args:
        config_file: The file setup.cfg.

    Returns:
        Name of each command -> module and function, such as "tinyvit.export.cli:main".
    """
    parser = configparser.ConfigParser()
    parser.read(config_file, encoding="utf-8")
    lines = parser["options.entry_points"]["console_scripts"].strip().splitlines()
    return {
        name.strip(): target.strip() for name, _, target in (line.partition("=") for line in lines)
    }


def capture_parser(entry_point: str, arguments: tuple[str, ...] = ()) -> argparse.ArgumentParser:
    """Start a command, and stop it when it is about to parse its arguments.

    Args:
        entry_point: Module and function of the command.
        arguments: Arguments for the function.

    Returns:
        The parser of the command.

    Raises:
        RuntimeError: The command parses nothing.
    """
    module, _, function = entry_point.partition(":")
    command: Callable[[list[str]], int] = getattr(import_module(module), function)

    def stop(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        raise _ParserCaptured(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            command(list(arguments))
        except _ParserCaptured as captured:
            return captured.parser
    raise RuntimeError(f"{entry_point} has no argument parser")


def make_command_pages(config_file: Path) -> list[CommandPage]:
    """Make the pages of all commands, and an overview.

    Args:
        config_file: The file setup.cfg.

    Returns:
        The overview, and then the pages in the order in which a reader finds them.
    """
    pages: list[CommandPage] = []
    entry_points = list_entry_points(config_file)
    for name, entry_point in entry_points.items():
        pages += _make_pages(entry_point, capture_parser(entry_point), (name,), entry_points)
    return [_make_overview(pages), *pages]


def _make_pages(
    entry_point: str,
    parser: argparse.ArgumentParser,
    words: tuple[str, ...],
    programs: Collection[str],
) -> Iterator[CommandPage]:
    """Make the page of a parser, followed by those of its subcommands.

    A subcommand that is also a program of its own (`tinyvit export` is `tinyvit-export`) has only
    the page of the program.
    """
    subparsers = {
        name: _complete_subparser(entry_point, subparser, (*words[1:], name))
        for name, subparser in _find_subparsers(parser).items()
    }
    folder = "/".join([FOLDER, *words])
    path = f"{folder}/index.md" if subparsers else f"{folder}.md"
    yield CommandPage(words, path, _format_page(parser, words, subparsers, programs))
    for name, subparser in subparsers.items():
        if _join_program(words, name) not in programs:
            yield from _make_pages(entry_point, subparser, (*words, name), programs)


def _join_program(words: tuple[str, ...], name: str) -> str:
    """Return the name of the program that a subcommand may also be, such as "tinyvit-export"."""
    return "-".join([*words, name])


def _complete_subparser(
    entry_point: str, subparser: argparse.ArgumentParser, arguments: tuple[str, ...]
) -> argparse.ArgumentParser:
    """Return the parser of a subcommand, which a command may complete only when it is requested.

    Args:
        entry_point: Module and function of the command.
        subparser: The parser of the subcommand, to which its arguments may not have been added.
        arguments: The words that request the subcommand.
    """
    captured = capture_parser(entry_point, arguments)
    return captured if captured.prog == subparser.prog else subparser


def _find_subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the subcommands by name, each once even if it has other names too."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                subparser = action.choices[choice.dest]
                subparser.description = subparser.description or _make_sentence(choice.help or "")
            names = {id(subparser): name for name, subparser in reversed(action.choices.items())}
            return {name: action.choices[name] for name in reversed(names.values())}
    return {}


def _make_sentence(clause: str) -> str:
    """Return a clause with a capital letter and a period."""
    return f"{clause[:1].upper()}{clause[1:].rstrip('.')}."


def _make_overview(pages: list[CommandPage]) -> CommandPage:
    """Make the page that lists all commands."""
    rows = [
        f"| [{' '.join(page.words)}]({page.path.removeprefix(f'{FOLDER}/')}) |"
        f" {_find_summary(page.text)} |"
        for page in pages
    ]
    text = "\n".join(
        [
            "# Commands",
            "",
            "These pages are made from the argument parsers of the commands, so they say the same"
            " as `--help`.",
            "[Errors](../errors.md) lists the exit codes.",
            "",
            "| command | what it does |",
            "|---|---|",
            *rows,
            "",
        ]
    )
    return CommandPage((), f"{FOLDER}/index.md", text)


def _find_summary(text: str) -> str:
    """Return the first paragraph of a page, on one line."""
    return " ".join(text.split("\n\n")[1].split())


def _format_page(
    parser: argparse.ArgumentParser,
    words: tuple[str, ...],
    subparsers: dict[str, argparse.ArgumentParser],
    programs: Collection[str],
) -> str:
    """Format the page of one parser in Markdown."""
    paragraphs = (parser.description or "").strip().split("\n\n")
    parts = [f"# {' '.join(words)}", *(escape_markdown(" ".join(p.split())) for p in paragraphs)]
    parts += ["```text", format_usage(parser, words), "```"]
    parts = ["\n\n".join(parts[:-3]), "\n".join(parts[-3:])]
    if subparsers:
        parts += ["## Subcommands", _format_subcommands(words, subparsers, programs)]
    for group in parser._action_groups:
        entries = [
            _format_argument(parser, action)
            for action in group._group_actions
            if action.help is not argparse.SUPPRESS
            and not isinstance(action, argparse._SubParsersAction)
        ]
        if entries:
            parts += [f"## {(group.title or 'Options').capitalize()}", "\n\n".join(entries)]
    if parser.epilog:
        parts += format_epilog(parser.epilog)
    return "\n\n".join(parts) + "\n"


def _format_subcommands(
    words: tuple[str, ...],
    subparsers: dict[str, argparse.ArgumentParser],
    programs: Collection[str],
) -> str:
    """Return a table of subcommands with links to their pages."""
    rows = []
    for name, subparser in subparsers.items():
        program = _join_program(words, name)
        page = f"../{program}" if program in programs else name
        target = f"{page}/index.md" if _find_subparsers(subparser) else f"{page}.md"
        description = " ".join((subparser.description or "").strip().split("\n\n")[0].split())
        rows.append(f"| [{' '.join([*words, name])}]({target}) | {escape_markdown(description)} |")
    return "\n".join(["| subcommand | what it does |", "|---|---|", *rows])


def _format_argument(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Return an argument and its help as an item of a list, which GitHub shows too."""
    value = format_value(action)
    names = [f"{option} {value}".rstrip() for option in action.option_strings] or [value]
    title = ", ".join(f"`{name}`" for name in names)
    help_text = escape_markdown(" ".join(parser._get_formatter()._expand_help(action).split()))
    return f"- {title}\n\n    {help_text}" if help_text else f"- {title}"
