"""Every command line in the documentation is accepted by the parser of its command."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="tinyvit-export needs tinyvit-edge[export]")

ROOT = Path(__file__).parents[1]
ENTRY_POINTS = {
    "tinyvit-export": "tinyvit.export.cli:main",
    "tinyvit-predict": "tinyvit.runtimes.cli:predict",
    "tinyvit-verify": "tinyvit.runtimes.cli:verify",
    "tinyvit-inspect": "tinyvit.runtimes.cli:inspect",
    "tinyvit-bench": "tinyvit.bench.cli:main",
    "tinyvit-distill": "tinyvit.distill.cli:main",
}
PAGES = sorted(
    [
        ROOT / "README.md",
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*/README.md"),
        *ROOT.glob("examples/*/*.yml"),
    ]
)
# A line that begins with a command, perhaps with its path, up to a comment or a shell operator. The
# usage on the page of a command, which has "[-h]", is none.
COMMAND_LINE = re.compile(
    rf"^\s*(?:- run: |run: )?(?:[\w~/.]*/)?({'|'.join(ENTRY_POINTS)})(?!.* \[-h\])( [^#|>&;\n]*)?",
    re.MULTILINE,
)


def find_commands(page: Path) -> Iterator[list[str]]:
    """Yield the commands of a page, as lists of arguments."""
    for match in COMMAND_LINE.finditer(page.read_text(encoding="utf-8").replace("\\\n", " ")):
        yield shlex.split(match[0].strip().removeprefix("- ").removeprefix("run: "))


class ArgumentsAccepted(Exception):
    """Raised instead of running a command whose arguments the parser has accepted."""


@pytest.fixture
def only_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop every command after it has parsed its arguments."""
    parse_args = argparse.ArgumentParser.parse_args

    def parse_and_stop(self: argparse.ArgumentParser, *args: Any) -> None:
        parse_args(self, *args)
        raise ArgumentsAccepted

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.usefixtures("only_parsing")
def test_commands_of_the_page_are_accepted(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for program, *arguments in find_commands(page):
        module, _, function = ENTRY_POINTS[Path(program).name].partition(":")
        try:
            getattr(importlib.import_module(module), function)(arguments)
        except ArgumentsAccepted:
            continue
        except SystemExit:
            reason = capsys.readouterr().err.splitlines()[-1]
            pytest.fail(f"{' '.join([program, *arguments])}: {reason}")


@pytest.mark.usefixtures("only_parsing")
def test_commands_are_found_and_wrong_ones_are_refused() -> None:
    assert sum(len(list(find_commands(page))) for page in PAGES) >= 50
    with pytest.raises(SystemExit):
        importlib.import_module("tinyvit.export.cli").main(["--targets", "onnx"])
