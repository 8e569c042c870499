"""Lists the notes and the tables of a report, which are the same in every report format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tinyvit.bench.record import Record
from tinyvit.bench.report.accuracy_tables import make_accuracy_tables
from tinyvit.bench.report.latency_tables import make_latency_tables
from tinyvit.bench.report.rows import Row
from tinyvit.bench.report.tables import (
    Table,
    make_device_table,
    make_settings_table,
    make_summary_table,
)


@dataclass(frozen=True)
class Note:
    """A failure or warning, shown at the top of a report.

    Attributes:
        kind: "failure" for something that could not be measured, otherwise "warning".
        text: The sentence.
    """

    kind: Literal["failure", "warning"]
    text: str


def list_notes(records: Sequence[Record]) -> list[Note]:
    """Return the failures of all records, then their warnings.

    If the records are of several devices, each note begins with the name of its device.
    """
    has_several_devices = len({record.device.name for record in records}) > 1

    def prefix(record: Record) -> str:
        return f"{record.device.name}: " if has_several_devices else ""

    failures = [Note("failure", prefix(r) + line) for r in records for line in r.failures]
    return failures + [Note("warning", prefix(r) + line) for r in records for line in r.warnings]


def list_tables(records: Sequence[Record], rows: Sequence[Row]) -> list[Table]:
    """Return the tables of a report in order, without empty tables and empty columns."""
    tables = [
        make_summary_table(rows),
        *make_latency_tables(records, rows),
        *make_accuracy_tables(rows),
        make_device_table(records),
        make_settings_table(records),
    ]
    return [_omit_empty_columns(table) for table in tables if table.rows]


def _omit_empty_columns(table: Table) -> Table:
    """Return the table without empty columns, and without a device column of only one device."""
    columns = list(zip(*table.rows))

    def is_shown(index: int) -> bool:
        is_device = table.header[index] == "device" and index > 0
        return any(columns[index]) and not (is_device and len(set(columns[index])) == 1)

    shown = [index for index in range(len(table.header)) if is_shown(index)]
    return Table(
        table.title,
        tuple(table.header[index] for index in shown),
        tuple(tuple(row[index] for index in shown) for row in table.rows),
    )
