"""The contents of a report, whatever its format: notes and tables, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """A sentence that a reader must know before reading the numbers.

    Attributes:
        kind: "failure" for what could not be measured, otherwise "warning".
        text: The sentence.
    """

    kind: str
    text: str


def list_notes(records: Sequence[Record]) -> list[Note]:
    """Return the failures of all records, then their warnings.

    Each begins with the name of its device if the records have several devices.
    """
    has_several_devices = len({record.device.name for record in records}) > 1

    def prefix(record: Record) -> str:
        return f"{record.device.name}: " if has_several_devices else ""

    failures = [Note("failure", prefix(r) + line) for r in records for line in r.failures]
    return failures + [Note("warning", prefix(r) + line) for r in records for line in r.warnings]


def list_tables(records: Sequence[Record], rows: Sequence[Row]) -> list[Table]:
    """Return the tables of a report that have rows, in order, without empty columns."""
    tables = [
        make_summary_table(rows),
        *make_latency_tables(records, rows),
        *make_accuracy_tables(rows),
        make_device_table(records),
        make_settings_table(records),
    ]
    return [_omit_empty_columns(table) for table in tables if table.rows]


def _omit_empty_columns(table: Table) -> Table:
    """Omit the columns without any text, and the devices if there is only one."""
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
