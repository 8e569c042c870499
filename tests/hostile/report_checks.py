"""Checks that reports contain the text of records as plain text, and nothing else."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Sequence
from html.parser import HTMLParser

from tests.helpers.hostile_text import has_control_characters
from tinyvit.bench.record import Record
from tinyvit.bench.report.contents import list_notes, list_tables
from tinyvit.bench.report.rows import make_rows
from tinyvit.bench.report.tables import Table, make_summary_table
from tinyvit.text.safe_text import escape_text

_PAGE_TAGS = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "ul", "li", "b"}
_PAGE_TAGS |= {"div", "table", "thead", "tbody", "tr", "th", "td", "figure"}
_SVG_TAGS = {"svg", "defs", "style", "g", "path", "use", "text", "clippath", "rect"}
_SVG_ATTRIBUTES = {"role", "aria-label", "viewbox", "version", "id", "d", "style", "transform"}
_SVG_ATTRIBUTES |= {"x", "y", "width", "height", "clip-path", "type", "href"}
_PAGE_ATTRIBUTES = {"lang", "charset", "name", "content", "class", "data-name"}
_VOID_TAGS = {"meta"}
_FORMULA = re.compile(r" *[=+\-@\t\r＝＋－＠]")  # noqa: RUF001 (full-width forms)


class _Page(HTMLParser):
    """Collects the cells of the tables of a page, and refuses unknown tags and attributes.

    Attributes:
        tables: The text of each cell, by table and row.
        headings: The texts of h1 and h2 elements.
        note_count: Number of list items.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[list[list[str]]] = []
        self.headings: list[str] = []
        self.note_count = 0
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        is_svg = tag == "svg" or "svg" in self._open
        assert tag in (_SVG_TAGS if is_svg else _PAGE_TAGS), f"the tag {tag!a}"
        for name, value in attributes:
            known = _SVG_ATTRIBUTES if is_svg else _PAGE_ATTRIBUTES
            assert name in known, f"the attribute {name!a} of {tag}"
            assert name != "href" or str(value).startswith("#"), f"a link to {value!a}"
        self.note_count += tag == "li"
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag in ("h1", "h2"):
            self.headings.append("")
        if tag not in _VOID_TAGS:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"the end of {tag!a}"
        assert self._open.pop() == tag, f"the end of {tag!a}"

    def handle_data(self, data: str) -> None:
        tag = self._open[-1] if self._open else ""
        if tag in ("td", "th"):
            self.tables[-1][-1][-1] += data
        elif tag in ("h1", "h2"):
            self.headings[-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"the comment {data!a}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"the processing instruction {data!a}")


def check_html(text: str, records: Sequence[Record]) -> None:
    """Check that an HTML report has the structure of the tables, and their cells as text."""
    assert not has_control_characters(text), "the HTML report has control characters"
    page = _Page()
    page.feed(text)
    page.close()
    tables = list_tables(records, make_rows(records))
    expected = [
        [[escape_text(cell) for cell in row] for row in (table.header, *table.rows)]
        for table in tables
    ]
    assert page.tables == expected, "the cells of the HTML report are not those of the tables"
    assert page.note_count == len(list_notes(records)), "the HTML report has other notes"
    assert len(page.headings) <= 1 + len(tables) + 4 * len(records), "additional headings"


def check_markdown(text: str, records: Sequence[Record]) -> None:
    """Check that a Markdown report has one line for each row, note and heading."""
    assert not has_control_characters(text), "the Markdown report has control characters"
    expected = ["# Benchmark report", ""]
    notes = list_notes(records)
    expected += [f"- **{note.kind}**: {_flatten(note.text)}" for note in notes]
    for table in list_tables(records, make_rows(records)):
        expected += ["", f"## {table.title}", "", *_list_table_lines(table)]
    lines = text.removesuffix("\n").split("\n")
    assert len(lines) == len(expected), "the Markdown report has additional lines"
    for line, expected_line in zip(lines, expected):
        content = line
        if line.startswith("- **"):
            prefix, _, content = line.partition("**: ")
            content = content.removeprefix("")
            expected_line = expected_line.removeprefix(f"{prefix}**: ")
        elif line.startswith("|---"):
            continue
        elif line.startswith("| "):
            cells = re.split(r"(?<!\\)(?:\\\\)*\|", line)
            expected_cells = expected_line.count("\0") - 1
            assert len(cells) - 2 == expected_cells, f"{line!a:.200} has additional cells"
        unescaped = re.sub(r"\\[\\|`*_\[\]~$@]", "", content)
        if line.startswith("| "):
            unescaped = unescaped.replace("|", "")
        assert not re.search(r"[\\`*_\[\]~$@<>|]", unescaped), f"markup in {line!a:.200}"
        assert not re.search(r"&(?!amp;|lt;|gt;)", unescaped), f"an entity in {line!a:.200}"
        plain = html.unescape(re.sub(r"\\([\\|`*_\[\]~$@])", r"\1", content))
        if not line.startswith("| "):
            assert plain == expected_line, f"{plain!a:.200} is not {expected_line!a:.200}"


def _list_table_lines(table: Table) -> list[str]:
    """Return the lines of a table in Markdown, with "\\0" as the border of cells."""
    lines = ["\0" + "\0".join(map(_flatten, row)) + "\0" for row in (table.header, *table.rows)]
    return [lines[0], "|---" * len(table.header) + "|", *lines[1:]]


def _flatten(text: str) -> str:
    return escape_text(" ".join(text.split()))


def check_csv(text: str, records: Sequence[Record]) -> None:
    """Check that a CSV report has one line for each row, and no formulas."""
    assert not has_control_characters(text), "the CSV report has control characters"
    table = make_summary_table(make_rows(records))
    assert text.count("\n") == 1 + len(table.rows), "the CSV report has additional lines"
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert {len(row) for row in rows} == {len(table.header)}, "the CSV report has additional cells"
    # In many countries, spreadsheet programs separate cells by semicolons.
    other_rows = csv.reader(io.StringIO(text, newline=""), delimiter=";")
    for row in [*rows, *other_rows]:
        for cell in row:
            assert not _FORMULA.match(cell), f"the formula {cell!a:.200}"
    for row, expected in zip(rows[1:], table.rows):
        for cell, expected_cell in zip(row, expected):
            plain = escape_text(expected_cell).replace("'", "")
            assert cell.replace("'", "") == plain, f"{cell!a:.200} is not {expected_cell!a:.200}"
