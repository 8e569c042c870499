"""Creates the HTML report: one page without other files, with notes, tables and charts."""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from tinyvit.bench.record import Record
from tinyvit.bench.report import charts
from tinyvit.bench.report.accuracy_tables import ACCURACY_TITLE
from tinyvit.bench.report.contents import Note, list_notes, list_tables
from tinyvit.bench.report.latency_tables import LATENCY_TITLE, STAGES_TITLE
from tinyvit.bench.report.rows import Row, device_key, list_devices
from tinyvit.bench.report.sensitivity_chart import draw_sensitivity_chart
from tinyvit.bench.report.sensitivity_tables import SENSITIVITY_TITLE, list_sensitivities
from tinyvit.bench.report.tables import SUMMARY_TITLE, Table
from tinyvit.safe_text import escape_text

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
    parts = [
        f"<h1>{_escape(title)}</h1>",
        f'<p class="date">{_escape(period)}</p>',
        _format_notes(list_notes(records)),
    ]
    tables = list_tables(records, rows)
    figures = _draw_figures(records, rows)
    for table in tables:
        parts += [_format_table(table), *figures.get(table.title, [])]
    body = "\n".join(part for part in parts if part)
    return _PAGE.format(title=_escape(title), css=css, body=body)


def _draw_figures(records: Sequence[Record], rows: Sequence[Row]) -> dict[str, list[str]]:
    """Draw the charts; return those that follow each table, by the title of the table."""
    figures: dict[str, list[str]] = {SUMMARY_TITLE: [], LATENCY_TITLE: [], STAGES_TITLE: []}
    devices = list_devices(records)
    for device in devices:
        device_rows = [row for row in rows if device_key(row.device) == device_key(device)]
        suffix = f", {device.name}" if len(devices) > 1 else ""
        for title, heading, svg in (
            (SUMMARY_TITLE, "Accuracy against latency", charts.draw_pareto_chart(device_rows)),
            (LATENCY_TITLE, "Latency chart", charts.draw_latency_chart(device_rows)),
            (STAGES_TITLE, "Stages chart", charts.draw_stage_chart(device_rows)),
        ):
            figures[title].append(_format_figure(heading + suffix, svg))
    figures[ACCURACY_TITLE] = [_format_figure("Accuracy chart", charts.draw_accuracy_chart(rows))]
    figures[SENSITIVITY_TITLE] = [
        _format_figure(
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


def _format_figure(title: str, svg: str) -> str:
    return f"<h2>{_escape(title)}</h2>\n<figure>{svg}</figure>" if svg else ""


def _format_table(table: Table) -> str:
    header = "".join(f"<th>{_escape(cell)}</th>" for cell in table.header)
    rows = []
    for row in table.rows:
        cells = "".join(f"<td>{_escape(cell)}</td>" for cell in row)
        rows.append(f"<tr>{cells}</tr>")
    body = "\n".join(rows)
    content = f"<thead><tr>{header}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    return f'<h2>{_escape(table.title)}</h2>\n<div class="wide"><table>\n{content}\n</table></div>'


def _escape(text: str) -> str:
    """Return text without markup and control characters, for an element or an attribute."""
    return html.escape(escape_text(text))
