"""Every command that a page shows is understood by the command: options that were renamed or never were are found here."""

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
MAINS = {
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
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("examples/*/README.md"),
        *ROOT.glob("examples/*/*.yml"),
    ]
)
# A line of a code block that begins with a command, perhaps by its path, up to a comment or what the shell does with it.
SHOWN = re.compile(
    rf"^\s*(?:- run: |run: )?(?:[\w~/.]*/)?({'|'.join(MAINS)})( [^#|>&;\n]*)?", re.MULTILINE
)


def shown(page: Path) -> Iterator[list[str]]:
    """The commands of a page, as lists of arguments."""
    for match in SHOWN.finditer(page.read_text().replace("\\\n", " ")):
        yield shlex.split(match[0].strip().removeprefix("- ").removeprefix("run: "))


class Understood(Exception):
    """The arguments were parsed."""


@pytest.fixture
def only_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands end once their arguments are parsed."""
    parse = argparse.ArgumentParser.parse_args

    def understand(self: argparse.ArgumentParser, *args: Any) -> None:
        parse(self, *args)
        raise Understood

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", understand)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_the_page(
    page: Path, only_parsing: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for program, *arguments in shown(page):
        module, _, main = MAINS[Path(program).name].partition(":")
        try:
            getattr(importlib.import_module(module), main)(arguments)
        except Understood:
            continue
        except SystemExit:
            pytest.fail(
                f"{' '.join([program, *arguments])}: {capsys.readouterr().err.splitlines()[-1]}"
            )


def test_commands_are_found_and_wrong_ones_refused(only_parsing: None) -> None:
    assert sum(len(list(shown(page))) for page in PAGES) >= 50
    with pytest.raises(SystemExit):
        importlib.import_module("tinyvit.export.cli").main(["--targets", "onnx"])
