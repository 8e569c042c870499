"""Every table in the Markdown files has a header, so that no row is shown as text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


def find_rows_without_header(text: str) -> list[str]:
    """Return the first line of each block of rows that a page shows as text."""
    lines = ["", *text.splitlines(), ""]
    return [
        line
        for before, line, after in zip(lines, lines[1:], lines[2:])
        if line.startswith("|")
        and not before.startswith("|")
        and not re.match(r"\|[ |:-]+$", after)
    ]


def test_a_row_behind_an_empty_line_is_found() -> None:
    table = "| a | b |\n|---|---|\n| 1 | 2 |\n"
    assert find_rows_without_header(table) == []
    assert find_rows_without_header(f"{table}\n| 3 | 4 |\n") == ["| 3 | 4 |"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_have_headers(page: Path) -> None:
    assert find_rows_without_header(page.read_text(encoding="utf-8")) == []
