"""Rows -> tables of text, and these as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyvit.bench.record import DeviceInfo, LatencyResult, Record
from tinyvit.bench.report.rows import Row, which


@dataclass(frozen=True)
class Table:
    """A title, a head and rows of cells; a cell "" is what was not measured."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(records: Sequence[Record], found: Sequence[Row]) -> list[Table]:
    """Every table of a report that has something in it, in the order of the page."""
    made = [
        _summary(found),
        _percentiles(found),
        _stages(found),
        _cold(found),
        _operators(found),
        _peers(records),
        _peaks(records, found),
    ]
    made += [_accuracy(found), _classes(found), _devices(records), _settings(records)]
    return [_worth_showing(table) for table in made if table.rows]


def _worth_showing(table: Table) -> Table:
    """Without the columns that nobody measured, and without the devices' where there is only one."""
    columns = list(zip(*table.rows))
    kept = [
        i
        for i, name in enumerate(table.head)
        if any(columns[i]) and not (name == "device" and i and len(set(columns[i])) == 1)
    ]
    return Table(
        table.title,
        tuple(table.head[i] for i in kept),
        tuple(tuple(row[i] for i in kept) for row in table.rows),
    )


def _summary(found: Sequence[Row]) -> Table:
    head = (
        *(
            "file",
            "device",
            "engine",
            "precision",
            "median ms",
            "time / first's",
            "top-1",
            "top-5",
            "images/s",
        ),
        *("threads", "batch", "scenario", "size MB", "integer work"),
    )
    return Table("Summary", head, tuple(_summary_row(row) for row in found))


def _summary_row(row: Row) -> tuple[str, ...]:
    subject, one, right = row.subject, row.latency, row.accuracy
    return (
        Path(subject.artifact).name,
        row.device.name,
        row.engine,
        subject.precision,
        _ms(one.median_ms) if one else "",
        f"{one.ratio.median:.3f} ({one.ratio.low:.3f} to {one.ratio.high:.3f})"
        if one and one.ratio
        else "",
        f"{right.top1:.2f}%" if right else "",
        f"{right.top5:.2f}%" if right else "",
        f"{one.images_per_s:.1f}" if one else "",
        str(subject.engine.get("threads", "")),
        str(one.batch) if one else "",
        one.scenario if one else "",
        f"{subject.size_bytes / 1e6:.1f}",
        _percent(subject.int8_macs),
    )


def _percentiles(found: Sequence[Row]) -> Table:
    head = (
        "file",
        "device",
        "runs",
        "min ms",
        "median",
        "mean",
        "p90",
        "p99",
        "p99 is below (99% sure)",
        "max",
        "warm-up runs",
    )
    return Table(
        "LatencyResult",
        head,
        tuple(_percentile_row(row, row.latency) for row in found if row.latency),
    )


def _percentile_row(row: Row, one: LatencyResult) -> tuple[str, ...]:
    withheld = f"withheld: {one.samples} runs"
    claimed = [
        withheld if value is None else _ms(value)
        for value in (one.p90_ms, one.p99_ms, one.p99_bound_ms)
    ]
    return (
        row.label,
        row.device.name,
        str(one.samples),
        *(_ms(value) for value in (one.min_ms, one.median_ms, one.mean_ms)),
        *claimed,
        _ms(one.max_ms),
        f"{one.warmup_runs}" + (", not steady" if one.is_steady is False else ""),
    )


def _stages(found: Sequence[Row]) -> Table:
    with_stages = [row for row in found if row.latency and row.latency.stages_ms]
    names = list(
        dict.fromkeys(name for row in with_stages if row.latency for name in row.latency.stages_ms)
    )
    cells = ((row, row.latency.stages_ms if row.latency else {}) for row in with_stages)
    table = (
        (
            row.label,
            row.device.name,
            *(_ms(stages[name]) if name in stages else "" for name in names),
        )
        for row, stages in cells
    )
    return Table(
        "Stages, from bytes to classes (median ms)", ("file", "device", *names), tuple(table)
    )


def _cold(found: Sequence[Row]) -> Table:
    head = ("file", "device", "import ms", "load ms", "first answer ms", "peak memory MiB")
    cells = ((row, row.latency.cold) for row in found if row.latency and row.latency.cold)
    rows = (
        (
            row.label,
            row.device.name,
            f"{c.import_ms:.0f}",
            f"{c.load_ms:.0f}",
            f"{c.first_ms:.1f}",
            f"{c.peak_bytes / 2**20:.0f}" if c.peak_bytes else "",
        )
        for row, c in cells
    )
    return Table("Cold start (a new process)", head, tuple(rows))


def _operators(found: Sequence[Row]) -> Table:
    rows = (
        (
            row.label,
            row.device.name,
            each.name,
            str(each.nodes),
            f"{each.ms:.2f}",
            "integers" if each.is_integer else "",
        )
        for row in found
        for each in (row.latency.operators if row.latency else ())
    )
    return Table(
        "Operators, by the engine's own profile",
        ("file", "device", "kind", "nodes", "ms a run", "computes in"),
        tuple(rows),
    )


def _peers(records: Sequence[Record]) -> Table:
    rows = (
        (
            peer.name,
            Path(peer.artifact).name,
            record.device.name,
            _ms(peer.median_ms),
            f"{peer.ratio.median:.2f} ({peer.ratio.low:.2f} to {peer.ratio.high:.2f})",
        )
        for record in records
        for peer in record.peers
    )
    return Table(
        "Beside other tools", ("tool", "file", "device", "its median ms", "ours / its"), tuple(rows)
    )


def _peaks(records: Sequence[Record], found: Sequence[Row]) -> Table:
    peaks = {which(record.device): record.peak for record in records if record.peak}
    rows = (
        (
            row.label,
            row.device.name,
            f"{peak.float32_gmacs:.0f}",
            f"{peak.int8_gmacs:.0f}",
            f"{peak.memory_gbytes:.0f}",
            _percent(row.latency.peak_share),
        )
        for row in found
        if row.latency
        and row.latency.peak_share is not None
        and (peak := peaks.get(which(row.device)))
    )
    head = ("file", "device", "float32 GMAC/s", "int8 GMAC/s", "memory GB/s", "share reached")
    return Table("What the machine reaches at most", head, tuple(rows))


def _accuracy(found: Sequence[Row]) -> Table:
    head = (
        *(
            "file",
            "device",
            "pictures",
            "skipped",
            "top-1 (95% interval)",
            "top-5 (95% interval)",
            "calibration error",
            "same answer as",
        ),
        *("agreement", "right to wrong", "wrong to right", "McNemar's p", "prepared by"),
    )
    rows = []
    for row in found:
        if (one := row.accuracy) is None:
            continue
        (low, high), (low5, high5), a = one.top1_interval, one.top5_interval, one.against
        rows.append(
            (
                *(
                    row.label,
                    row.device.name,
                    f"{one.images}" + (f" of {one.total}" if one.total != one.images else ""),
                ),
                *(
                    str(one.skipped or ""),
                    f"{one.top1:.2f}% ({low:.2f} to {high:.2f})",
                    f"{one.top5:.2f}% ({low5:.2f} to {high5:.2f})",
                ),
                f"{one.calibration_error:.1f}%",
                *(
                    (
                        Path(a.to).name,
                        f"{a.agreement:.2f}%",
                        str(a.worse),
                        str(a.better),
                        f"{a.p:.2g}",
                    )
                    if a
                    else ("",) * 5
                ),
                one.preprocess,
            )
        )
    return Table("Accuracy", head, tuple(rows))


def _classes(found: Sequence[Row], most: int = 10) -> Table:
    rows = (
        (
            row.label,
            each.label,
            each.wnid,
            str(each.images),
            f"{each.top1:.1f}%",
            "" if each.reference_top1 is None else f"{each.reference_top1:.1f}%",
        )
        for row in found
        for each in (row.accuracy.classes[:most] if row.accuracy else ())
    )
    return Table(
        "Classes, the worst first",
        ("file", "class", "WordNet id", "pictures", "top-1", "reference"),
        tuple(rows),
    )


def _devices(records: Sequence[Record]) -> Table:
    rows: dict[DeviceInfo, tuple[str, ...]] = {}
    for record in records:
        d = record.device
        rows[d] = (
            *(
                d.name,
                d.cpu,
                ", ".join(d.features),
                str(d.cores),
                f"{d.memory_bytes / 2**30:.1f}" if d.memory_bytes else "",
                d.governor or "",
            ),
            *(
                f"{d.clock_mhz:.0f}" if d.clock_mhz else "",
                f"{d.clock_after_mhz:.0f}" if d.clock_after_mhz else "",
                d.machine,
                d.system,
            ),
        )
    head = (
        "device",
        "processor",
        "features",
        "cores",
        "memory GiB",
        "governor",
        "clock before MHz",
        "after",
        "architecture",
        "system",
    )
    return Table("Devices", head, tuple(dict.fromkeys(rows.values())))


def _settings(records: Sequence[Record]) -> Table:
    def said(values: Sequence[tuple[str, object]]) -> str:
        return ", ".join(
            f"{key} {value}" for key, value in values if value not in (None, "", False, 0)
        )

    rows = (
        (
            record.date,
            record.kind,
            record.device.name,
            record.tool,
            said([*record.settings.items(), *record.data.items()]),
        )
        for record in records
    )
    return Table("How it was measured", ("date", "kind", "device", "tool", "settings"), tuple(rows))


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def notes(records: Sequence[Record]) -> list[tuple[str, str]]:
    """("refused" or "warning", what) of every record, refusals first, with its device where there are several."""
    several = len({record.device.name for record in records}) > 1

    def on(record: Record) -> str:
        return f"{record.device.name}: " if several else ""

    refused = [("refused", on(record) + line) for record in records for line in record.refusals]
    return refused + [
        ("warning", on(record) + line) for record in records for line in record.warnings
    ]


def markdown(records: Sequence[Record], found: Sequence[Row]) -> str:
    """The whole report, as tables."""
    lines = ["# Benchmark report", ""]
    lines += [f"- **{kind}**: {_cell(what)}" for kind, what in notes(records)]
    for table in tables(records, found):
        lines += [
            "",
            f"## {table.title}",
            "",
            _line(table.head),
            "|---" * len(table.head) + "|",
            *map(_line, table.rows),
        ]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """One line of Markdown that is text and nothing else: records come from strangers."""
    flat = " ".join(text.split())
    for character in ("\\", "|", "`", "*", "_", "[", "]", "<", ">"):
        flat = flat.replace(
            character,
            f"\\{character}" if character not in "<>" else {"<": "&lt;", ">": "&gt;"}[character],
        )
    return flat


def comma_separated(found: Sequence[Row]) -> str:
    """The summary, one row a result, with the head; text that a spreadsheet program would run as a formula has a ' before it."""
    table = _summary(found)
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow(table.head)
    writer.writerows(
        [f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t") else cell for cell in row]
        for row in table.rows
    )
    return made.getvalue()
