"""Lists the notes (failures and warnings) and the tables of a report, for every report format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tinyvit.bench.record import Record
from tinyvit.bench.report.accuracy_tables import make_accuracy_tables
from tinyvit.bench.report.latency_tables import make_latency_tables
from tinyvit.bench.report.rows import Row
from tinyvit.bench.report.sensitivity_tables import make_sensitivity_tables
from tinyvit.bench.report.tables import (
    Table,
    make_device_table,
    make_settings_table,
    make_summary_table,
)
from tinyvit.errors import RequestError

MAX_CHARACTERS = 2**21
"""Largest number of characters in the tables of a report, and in its notes. Tables repeat the names
of the artifact and of the device in each row. The project's own reports have at most 100,000
characters."""


@dataclass(frozen=True)
class Note:
    """A failure or warning, shown at the top of a report.

    Attributes:
        kind: "failure" if an artifact or baseline could not be measured, otherwise "warning".
        text: The failure or the warning, in one line.
    """

    kind: Literal["failure", "warning"]
    text: str


def list_notes(records: Sequence[Record]) -> list[Note]:
    """Return the failures of all records, then their warnings.

    If the records are from several devices, each note begins with the name of its device.

    Args:
        records: The records.

    Raises:
        RequestError: The notes together have more than `MAX_CHARACTERS` characters.
    """
    has_several_devices = len({record.device.name for record in records}) > 1
    failures, warnings = [], []
    for record in records:
        prefix = f"{record.device.name}: " if has_several_devices else ""
        failures += [Note("failure", prefix + line) for line in record.failures]
        warnings += [Note("warning", prefix + line) for line in record.warnings]
    notes = [*failures, *warnings]
    _require_length(note.text for note in notes)
    return notes


def list_tables(records: Sequence[Record], rows: Sequence[Row]) -> list[Table]:
    """Return the tables in the order of the report; empty tables and columns are left out.

    Args:
        records: The records.
        rows: The rows of the records, from `make_rows`.

    Raises:
        RequestError: The tables together have more than `MAX_CHARACTERS` characters.
    """
    tables = [
        make_summary_table(rows),
        *make_latency_tables(records, rows),
        *make_accuracy_tables(rows),
        *make_sensitivity_tables(records),
        make_device_table(records),
        make_settings_table(records),
    ]
    _require_length(cell for table in tables for row in table.rows for cell in row)
    return [_omit_empty_columns(table) for table in tables if table.rows]


def _require_length(texts: Iterable[str]) -> None:
    """Raise RequestError if texts together have more than `MAX_CHARACTERS` characters."""
    count = sum(map(len, texts))
    if count > MAX_CHARACTERS:
        raise RequestError(
            f"the report would have {count} characters, more than {MAX_CHARACTERS}",
            "give records with fewer results and shorter names",
        )


def _omit_empty_columns(table: Table) -> Table:
    """Return the table without its empty columns.

    A column "device" in which all cells are equal is left out too, except as the first column, in
    the table of devices.
    """
    columns = list(zip(*table.rows))

    def is_shown(index: int) -> bool:
        is_device_column = table.header[index] == "device" and index > 0
        has_one_device = is_device_column and len(set(columns[index])) == 1
        return any(columns[index]) and not has_one_device

    shown_indices = [index for index in range(len(table.header)) if is_shown(index)]
    return Table(
        title=table.title,
        header=tuple(table.header[index] for index in shown_indices),
        rows=tuple(tuple(row[index] for index in shown_indices) for row in table.rows),
    )
