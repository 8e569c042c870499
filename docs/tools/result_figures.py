"""Copies the figures of docs/results into the README and the pages of the documentation.

    python docs/tools/result_figures.py            # updates every page
    python docs/tools/result_figures.py --check    # only says which pages are out of date

A page states which table it shows, and in which columns (1 is the first):

    <!-- figures: x86-64-vnni.md "int8 and float32" columns 1 2 4 -->
    (the table)
    <!-- end of figures -->

The program replaces what is between the two comments by the table, the sentence before it, and the
machine and the date of the measurement. So no figure is typed by hand, and two pages cannot
disagree.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from generated_files import run_generator

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
"""Folder of the pages that programs write from measurements."""

_BLOCK = re.compile(
    r'(?P<begin><!-- figures: (?P<file>[\w-]+\.md) "(?P<heading>[^"]+)"'
    r"(?: columns (?P<columns>[\d ]+))? -->\n).*?(?P<end><!-- end of figures -->)",
    re.DOTALL,
)
_MACHINE = re.compile(r"^(?P<machine>[^|#\n]*?)[,;] (?P<date>\d{4}-\d{2}-\d{2})", re.MULTILINE)


def fill_figures(text: str, results: Path = RESULTS) -> str:
    """Replace the content of every block of figures.

    Args:
        text: A page in Markdown.
        results: Folder of the pages with the results.

    Returns:
        The page with the present figures.

    Raises:
        ValueError: A block names a heading, or a column, that the page of results does not have.
    """

    def fill(match: re.Match[str]) -> str:
        page = (results / match["file"]).read_text(encoding="utf-8")
        columns = [int(number) for number in (match["columns"] or "").split()]
        return f"{match['begin']}\n{make_block(page, match['heading'], columns)}\n\n{match['end']}"

    return _BLOCK.sub(fill, text)


def make_block(page: str, heading: str, columns: list[int]) -> str:
    """Make the content of one block.

    Args:
        page: A page of results.
        heading: The beginning of the heading above the table.
        columns: Numbers of the columns, from 1; all columns if it is empty.

    Returns:
        The machine and the date, the text above the table, and the table.

    Raises:
        ValueError: The page has no such heading, table or column.
    """
    sections = re.split(r"^## ", page, flags=re.MULTILINE)
    section = next((part for part in sections[1:] if part.startswith(heading)), None)
    machine = _MACHINE.search(sections[0])
    if section is None or machine is None:
        raise ValueError(f"the page of results has no section '{heading}', or no machine and date")
    lines = [line for line in section.splitlines()[1:] if line.strip()]
    rows = [line for line in lines if line.startswith("|")]
    notes = [line for line in lines if not line.startswith("|")]
    if not rows:
        raise ValueError(f"the section '{heading}' has no table")
    source = f"Measured on {machine['machine']} on {machine['date']}."
    return "\n".join([" ".join([source, *notes]), "", *_choose_columns(rows, columns)])


def _choose_columns(rows: list[str], columns: list[int]) -> list[str]:
    """Return the rows of a table with only some of its columns."""
    if not columns:
        return rows
    cells = [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in rows]
    if max(columns) > len(cells[0]):
        raise ValueError(f"the table has no column {max(columns)}")
    return [f"| {' | '.join(row[number - 1] for number in columns)} |" for row in cells]


def list_pages(root: Path = ROOT) -> Iterator[Path]:
    """Iterate over the README and the pages of the documentation.

    Args:
        root: The folder of the repository.
    """
    yield root / "README.md"
    yield from sorted((root / "docs").rglob("*.md"))


def make_files() -> dict[Path, str]:
    """Return the text of every page with the present figures."""
    return {path: fill_figures(path.read_text(encoding="utf-8")) for path in list_pages()}


if __name__ == "__main__":
    sys.exit(run_generator("Copy figures from docs/results into pages.", make_files))
