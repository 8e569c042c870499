"""Records -> one page of HTML that needs nothing else: refusals and warnings first, then tables and charts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources

from tinyvit.bench.record import Record
from tinyvit.bench.report import charts
from tinyvit.bench.report.rows import Row, devices, which
from tinyvit.bench.report.tables import Table, notes, tables


def page(records: Sequence[Record], found: Sequence[Row], title: str) -> str:
    """The page. Raises MissingDependencyError where there is no matplotlib. Everything from a record is text in it, never markup."""
    css = resources.files("tinyvit.bench.report").joinpath("page.css").read_text(encoding="utf-8")
    dates = sorted(record.date for record in records)
    span = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    said = "".join(
        f'<li class="{kind}"><b>{kind}</b> {escape(what)}</li>' for kind, what in notes(records)
    )
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="date">{escape(span)}</p>',
        f'<ul class="notes">{said}</ul>' if said else "",
    ]
    drawn = _drawn(records, found)
    for table in tables(records, found):
        parts += [_section(table), *drawn.pop(table.title, [])]
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _drawn(records: Sequence[Record], found: Sequence[Row]) -> dict[str, list[str]]:
    """Charts, by the title of the table that they come after."""
    made = {
        "Summary": list[str](),
        "Latency": list[str](),
        "Stages, from bytes to classes (median ms)": list[str](),
    }
    several = len(devices(records)) > 1
    for device in devices(records):
        here = [row for row in found if which(row.device) == which(device)]
        where = f", {device.name}" if several else ""
        made["Summary"].append(_figure(f"Accuracy against latency{where}", charts.scatter(here)))
        made["Latency"].append(_figure(f"Latency{where}", charts.latencies(here)))
        made["Stages, from bytes to classes (median ms)"].append(
            _figure(f"Stages{where}", charts.stages(here))
        )
    made["Accuracy"] = [_figure("Accuracy", charts.accuracies(found))]
    return made


def _figure(title: str, svg: str) -> str:
    return f"<h2>{escape(title)}</h2>\n<figure>{svg}</figure>" if svg else ""


def _section(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
    rows = "\n".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows
    )
    inside = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>"
    return f'<h2>{escape(table.title)}</h2>\n<div class="wide"><table>\n{inside}\n</table></div>'
