"""Formats the page and the record of the study, and reads an earlier record."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tinyvit.bench.record import PACKAGE_VERSION, DeviceInfo
from tinyvit.bench.report.console import format_table_row
from tinyvit.serialization import parse_dataclass
from tinyvit.studies.before_after.history import SHORT_HASH_DIGITS
from tinyvit.studies.earlier_records import list_comparable_items
from tinyvit.studies.figures_page import describe_device, make_device_record

_EXPLANATION = """\
This page is written by `python -m tinyvit.studies.before_after`. Each change is measured with the
code before it, which the command takes from the history of the repository, and with the present
code, in new processes that take turns. The second table has the commits: rows can be measured at
different times, and the present code has all later changes too. Before and after are medians; the
last column is the median of the ratios of the rounds, with the lowest and the highest. A ratio
above 1 is what a change costs. The photographs are generated, with the frequencies of a photograph
and JPEG quality 90, and the demo model is in int8, unless a row says otherwise. Memory is the
highest sum of the proportional set sizes (PSS) of all processes of a command, unless a row says
otherwise."""


@dataclass(frozen=True)
class QuantityResult:
    """The values of one quantity.

    Attributes:
        text: What was measured.
        decimals: Number of decimals on the page.
        before: The value of each round with the code before the change.
        after: The value of each round with the present code.
    """

    text: str
    decimals: int
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """The ratio after / before of each round."""
        return tuple(after / before for before, after in zip(self.before, self.after))


@dataclass(frozen=True)
class RowResult:
    """The measurement of one change.

    Attributes:
        name: Name of the row.
        change: The change.
        date: When the measurement began.
        before_commit: Full hash of the state before the change.
        after_state: The present commit, and whether files differ from it.
        commits: Hashes of the commits that made the change.
        quantities: The results; empty if the row was not measured.
        note: Why the row was not measured; empty if it was.
        warnings: Disturbances of the measurement.
        seconds: Duration of the measurement, including what was made for it.
    """

    name: str
    change: str
    date: str
    before_commit: str
    after_state: str
    commits: tuple[str, ...] = ()
    quantities: tuple[QuantityResult, ...] = ()
    note: str = ""
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class BeforeAfterRecord:
    """Everything that the study measured.

    Attributes:
        date: When the last measurement began.
        device: The machine.
        rows: The changes, in order.
        is_quick: Whether the sizes were chosen only to try the program.
    """

    date: str
    device: DeviceInfo
    rows: tuple[RowResult, ...]
    is_quick: bool = False


def make_record(record: BeforeAfterRecord) -> dict[str, Any]:
    """Return the record as a JSON object.

    Args:
        record: The measurements.
    """
    return {
        "date": record.date,
        "package": PACKAGE_VERSION,
        "device": make_device_record(record.device),
        "quick": record.is_quick,
        "rows": [asdict(row) for row in record.rows],
    }


def read_rows(record: Any, device: DeviceInfo, is_quick: bool) -> list[RowResult]:
    """Read the rows of an earlier record; none if it is of another processor or kind of sizes.

    Args:
        record: The content of the JSON file.
        device: The present machine.
        is_quick: Whether the present sizes only try the program.

    Raises:
        ValueError: The record has another form.
    """
    return [
        parse_dataclass(RowResult, row)
        for row in list_comparable_items(record, "rows", device, is_quick)
    ]


def format_page(record: BeforeAfterRecord) -> list[str]:
    """Return the lines of the page.

    Args:
        record: The measurements.
    """
    device = record.device
    lines = [
        f"# Before and after on {device.architecture}, {device.cpu}",
        "",
        f"{describe_device(device)}; {record.date}; {PACKAGE_VERSION}.",
        "",
        *_EXPLANATION.splitlines(),
    ]
    if record.is_quick:
        lines += ["", "The option --quick was given, so nothing on this page is a result."]
    lines += ["", "## Changes", "", *_format_changes(record.rows)]
    lines += ["", "## Commits and rounds", "", *_format_states(record.rows)]
    warnings = [f"- {row.name}: {warning}" for row in record.rows for warning in row.warnings]
    return [*lines, "", *warnings] if warnings else lines


def _format_changes(rows: Sequence[RowResult]) -> list[str]:
    columns = ("change", "measured", "before", "after", "after / before (range)")
    lines = [format_table_row(columns), "|---" * len(columns) + "|"]
    for row in rows:
        if row.note:
            lines.append(format_table_row((row.change, row.note, "", "", "")))
        for quantity in row.quantities:
            cells = (
                row.change,
                quantity.text,
                f"{statistics.median(quantity.before):.{quantity.decimals}f}",
                f"{statistics.median(quantity.after):.{quantity.decimals}f}",
                format_ratios(quantity.ratios),
            )
            lines.append(format_table_row(cells))
    return lines


def format_ratios(ratios: Sequence[float]) -> str:
    """Return the median of ratios, and their range if there are several.

    Args:
        ratios: At least one ratio.
    """
    median = f"{statistics.median(ratios):.2f}"
    if len(ratios) == 1:
        return median
    return f"{median} ({min(ratios):.2f} to {max(ratios):.2f})"


def _format_states(rows: Sequence[RowResult]) -> list[str]:
    columns = ("row", "made by", "before", "after", "rounds", "measured", "minutes")
    lines = [format_table_row(columns), "|---" * len(columns) + "|"]
    for row in rows:
        rounds = str(len(row.quantities[0].before)) if row.quantities else "0"
        cells = (
            row.name,
            ", ".join(commit[:SHORT_HASH_DIGITS] for commit in row.commits) or "later commits",
            row.before_commit[:SHORT_HASH_DIGITS],
            row.after_state,
            rounds,
            row.date[:16].replace("T", " "),
            f"{row.seconds / 60:.1f}",
        )
        lines.append(format_table_row(cells))
    return lines
