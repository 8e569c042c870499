"""Formats tables as CSV that is safe to open in a spreadsheet program.

Names of classes, files and artifacts come from users and can contain anything, also formulas.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from tinyvit.text.safe_text import escape_text

_FORMULA_START = re.compile(r'(?:^|;)[ "]*[=+\-@＝＋－＠]')  # noqa: RUF001 (full-width forms)
"""Matches where a spreadsheet program may begin to evaluate text as a formula.

A formula begins with one of these characters at the start of a cell, also in its full-width form
and behind spaces. In many countries, spreadsheet programs start a new cell at a semicolon; there,
quotes at its start are not part of its text.
"""


def format_csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table as CSV with a header line.

    Control characters are escaped, so that a row is always one line. An apostrophe is inserted
    before text that a spreadsheet program would evaluate as a formula, which prevents that.

    Args:
        header: The titles of the columns.
        rows: The cells of each row, one for each column.

    Returns:
        The lines of the table, each with a line feed at its end.
    """
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(map(_escape_cell, header))
    for row in rows:
        writer.writerow(map(_escape_cell, row))
    return output.getvalue()


def _escape_cell(cell: str) -> str:
    """Return the text of a cell in one line, with an apostrophe before anything like a formula."""
    return _FORMULA_START.sub(_insert_apostrophe, escape_text(cell))


def _insert_apostrophe(formula_start: re.Match[str]) -> str:
    """Insert an apostrophe behind the semicolon, if there is one, and otherwise at the start."""
    text = formula_start[0]
    return f";'{text[1:]}" if text.startswith(";") else f"'{text}"
