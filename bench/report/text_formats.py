"""Creates reports as Markdown and as CSV."""

from __future__ import annotations

from collections.abc import Sequence

from tinyvit.bench.record import Record
from tinyvit.bench.report.contents import list_notes, list_tables
from tinyvit.bench.report.rows import Row
from tinyvit.bench.report.tables import make_summary_table
from tinyvit.text.csv_text import format_csv
from tinyvit.text.markdown_text import escape_markdown, format_markdown_row


def format_markdown(records: Sequence[Record], rows: Sequence[Row]) -> str:
    """Return the report as Markdown.

    Args:
        records: The records.
        rows: The rows of the records, from `make_rows`.
    """
    lines = ["# Benchmark report", ""]
    lines += [f"- **{note.kind}**: {escape_markdown(note.text)}" for note in list_notes(records)]
    for table in list_tables(records, rows):
        separator = "|---" * len(table.header) + "|"
        lines += ["", f"## {table.title}", "", format_markdown_row(table.header), separator]
        lines += [format_markdown_row(row) for row in table.rows]
    return "\n".join(lines) + "\n"


def format_summary_csv(rows: Sequence[Row]) -> str:
    """Return the summary table as CSV with a header line.

    Args:
        rows: The rows of the records, from `make_rows`.
    """
    table = make_summary_table(rows)
    return format_csv(table.header, table.rows)
