"""Creates reports as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from tinyvit.bench.record import Record
from tinyvit.bench.report.contents import list_notes, list_tables
from tinyvit.bench.report.rows import Row
from tinyvit.bench.report.tables import make_summary_table
from tinyvit.safe_text import escape_text

_MARKDOWN_ESCAPES = str.maketrans(
    {character: f"\\{character}" for character in "\\|`*_[]~$"}
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
)
"""Replacements for characters of markup. GitHub typesets text between "$" as a formula."""
_FORMULA_START = re.compile(r'(?:^|;)[ "]*[=+\-@＝＋－＠]')  # noqa: RUF001 (full-width forms)
"""Matches where a spreadsheet program may begin to evaluate text as a formula.

A formula begins with one of these characters at the start of a cell, also in its full-width form
and behind spaces. In many countries, spreadsheet programs start a new cell at a semicolon; there,
quotes at its start are not part of its text.
"""


def format_markdown(records: Sequence[Record], rows: Sequence[Row]) -> str:
    """Return the report as Markdown.

    Args:
        records: The records.
        rows: The rows of the records, from `make_rows`.
    """
    lines = ["# Benchmark report", ""]
    lines += [f"- **{note.kind}**: {_escape_markdown(note.text)}" for note in list_notes(records)]
    for table in list_tables(records, rows):
        separator = "|---" * len(table.header) + "|"
        lines += ["", f"## {table.title}", "", _format_line(table.header), separator]
        lines += [_format_line(row) for row in table.rows]
    return "\n".join(lines) + "\n"


def format_csv(rows: Sequence[Row]) -> str:
    """Return the summary table as CSV with a header line.

    Control characters are escaped, so that a row is always one line. An apostrophe is inserted
    before text that a spreadsheet program would evaluate as a formula, which prevents that.

    Args:
        rows: The rows of the records, from `make_rows`.
    """
    table = make_summary_table(rows)
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(table.header)
    for row in table.rows:
        writer.writerow(map(_escape_csv, row))
    return output.getvalue()


def _format_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escape_markdown, cells))} |"


def _escape_markdown(text: str) -> str:
    """Return text as one line of Markdown without markup, because records may contain any text."""
    return escape_text(" ".join(text.split())).translate(_MARKDOWN_ESCAPES)


def _escape_csv(cell: str) -> str:
    """Return the text of a cell in one line, with an apostrophe before anything like a formula."""
    return _FORMULA_START.sub(_insert_apostrophe, escape_text(cell))


def _insert_apostrophe(formula_start: re.Match[str]) -> str:
    """Insert an apostrophe behind the semicolon, if there is one, and otherwise at the start."""
    text = formula_start[0]
    return f";'{text[1:]}" if text.startswith(";") else f"'{text}"
