"""Creates reports as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from tinyvit.bench.record import Record
from tinyvit.bench.report.contents import list_notes, list_tables
from tinyvit.bench.report.rows import Row
from tinyvit.bench.report.tables import make_summary_table

_MARKDOWN_ESCAPES = str.maketrans(
    {character: f"\\{character}" for character in "\\|`*_[]"} | {"<": "&lt;", ">": "&gt;"}
)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t")
"""A spreadsheet program evaluates a cell as a formula if it begins with one of these characters."""


def format_markdown(records: Sequence[Record], rows: Sequence[Row]) -> str:
    """Return the report as Markdown.

    Args:
        records: The records.
        rows: The rows of the records, from `make_rows`.
    """
    lines = ["# Benchmark report", ""]
    lines += [f"- **{note.kind}**: {_escape(note.text)}" for note in list_notes(records)]
    for table in list_tables(records, rows):
        separator = "|---" * len(table.header) + "|"
        lines += ["", f"## {table.title}", "", _format_line(table.header), separator]
        lines += [_format_line(row) for row in table.rows]
    return "\n".join(lines) + "\n"


def format_csv(rows: Sequence[Row]) -> str:
    """Return the summary table as CSV with a header line.

    A cell that a spreadsheet program would evaluate as a formula begins with an added apostrophe,
    which prevents the evaluation.

    Args:
        rows: The rows of the records, from `make_rows`.
    """
    table = make_summary_table(rows)
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(table.header)
    for row in table.rows:
        writer.writerow([f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell for cell in row])
    return output.getvalue()


def _format_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escape, cells))} |"


def _escape(text: str) -> str:
    """Return text as one line of Markdown without markup, because records may contain any text."""
    return " ".join(text.split()).translate(_MARKDOWN_ESCAPES)
