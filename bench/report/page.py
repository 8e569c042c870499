"""Creates the HTML report: one page without other files, with notes, tables and charts."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from tinyvit.bench.record import Record
from tinyvit.bench.report import charts
from tinyvit.bench.report.accuracy_tables import ACCURACY_TITLE
from tinyvit.bench.report.contents import Note, list_notes, list_tables
from tinyvit.bench.report.latency_tables import LATENCY_TITLE, STAGES_TITLE
from tinyvit.bench.report.rows import Row, device_key, list_devices
from tinyvit.bench.report.sensitivity_chart import draw_sensitivity_chart
from tinyvit.bench.report.sensitivity_tables import SENSITIVITY_TITLE, list_sensitivities
from tinyvit.bench.report.tables import SUMMARY_TITLE, Table
from tinyvit.text.safe_text import escape_text

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{css}</style>
</head>
<body>
{body}
</body>
</html>
"""

_MAX_OPEN_ROWS = 20
"""A table with more rows is folded, except the summary."""


def format_page(records: Sequence[Record], rows: Sequence[Row], title: str) -> str:
    """Return the report as an HTML page.

    All text of the records is escaped, so that a record can add neither markup nor control
    characters to the page.

    Args:
        records: The records.
        rows: The rows of the records, from `make_rows`.
        title: Title of the page.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        RequestError: The texts of the report would be too long (`contents.MAX_CHARACTERS`).
    """
    css = resources.files("tinyvit.bench.report").joinpath("page.css").read_text(encoding="utf-8")
    dates = sorted(record.date for record in records)
    period = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    header = [
        f"<h1>{_escape(title)}</h1>",
        f'<p class="date">{_escape(period)}</p>',
        _format_notes(list_notes(records)),
    ]
    sections: list[_Section] = []
    figures = _draw_figures(records, rows)
    for table in list_tables(records, rows):
        sections += [_make_table_section(table), *figures.get(table.title, [])]
    body = "\n".join([*filter(None, header), *_format_sections(sections)])
    return _PAGE.format(title=_escape(title), css=css, body=body)


class _Section(NamedTuple):
    """A part of the page: its heading, and its content in HTML."""

    heading: str
    content: str


def _format_sections(sections: Sequence[_Section]) -> list[str]:
    """Format the sections that have a content, with different headings."""
    counts: Counter[str] = Counter()
    parts = []
    for section in sections:
        if not section.content:
            continue
        counts[section.heading] += 1
        number = counts[section.heading]
        heading = section.heading if number == 1 else f"{section.heading} ({number})"
        parts.append(f"<h2>{_escape(heading)}</h2>\n{section.content}")
    return parts


def _draw_figures(records: Sequence[Record], rows: Sequence[Row]) -> dict[str, list[_Section]]:
    """Draw the charts; return those that follow each table, by the title of the table."""
    figures: dict[str, list[_Section]] = {SUMMARY_TITLE: [], LATENCY_TITLE: [], STAGES_TITLE: []}
    devices = list_devices(records)
    for device in devices:
        device_rows = [row for row in rows if device_key(row.device) == device_key(device)]
        suffix = f", {device.name}" if len(devices) > 1 else ""
        for title, heading, svg in (
            (SUMMARY_TITLE, "Accuracy against latency", charts.draw_pareto_chart(device_rows)),
            (LATENCY_TITLE, "Latency chart", charts.draw_latency_chart(device_rows)),
            (STAGES_TITLE, "Stages chart", charts.draw_stage_chart(device_rows)),
        ):
            figures[title].append(_make_figure_section(heading + suffix, svg))
    figures[ACCURACY_TITLE] = [
        _make_figure_section("Accuracy chart", charts.draw_accuracy_chart(rows))
    ]
    figures[SENSITIVITY_TITLE] = [
        _make_figure_section(
            f"Most sensitive units of {Path(result.artifact.path).name}",
            draw_sensitivity_chart(result.network),
        )
        for _, result in list_sensitivities(records)
    ]
    return figures


def _format_notes(notes: Sequence[Note]) -> str:
    items = "".join(
        f'<li class="{note.kind}"><b>{note.kind}</b> {_escape(note.text)}</li>' for note in notes
    )
    return f'<ul class="notes">{items}</ul>' if items else ""


def _make_figure_section(heading: str, svg: str) -> _Section:
    return _Section(heading, f"<figure>{svg}</figure>" if svg else "")


def _make_table_section(table: Table) -> _Section:
    """Make the section of a table. On narrow screens, `data-name` precedes each cell."""
    header = "".join(f"<th>{_escape(cell)}</th>" for cell in table.header)
    rows = []
    for row in table.rows:
        cells = "".join(
            f'<td data-name="{_escape(name)}">{_escape(cell)}</td>'
            for name, cell in zip(table.header, row)
        )
        rows.append(f"<tr>{cells}</tr>")
    body = "\n".join(rows)
    content = f"<thead><tr>{header}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    content = f'<div class="wide"><table>\n{content}\n</table></div>'
    if len(table.rows) > _MAX_OPEN_ROWS and table.title != SUMMARY_TITLE:
        content = f"<details><summary>{len(table.rows)} rows</summary>\n{content}\n</details>"
    return _Section(table.title, content)


def _escape(text: str) -> str:
    """Return text without markup and control characters, for an element or an attribute."""
    return html.escape(escape_text(text))
