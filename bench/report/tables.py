"""Defines `Table`, and creates the summary, device and settings tables of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyvit.bench.latency.percentiles import MIN_SAMPLES, MIN_TURNS, RatioInterval
from tinyvit.bench.record import DeviceInfo, LatencyRatio, Record
from tinyvit.bench.report.rows import Row, describe_threads

SUMMARY_TITLE = "Summary"


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: Heading of the table.
        header: Names of the columns.
        rows: The cells of each row, in the order of `header`; "" for a value that was not measured.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def make_summary_table(rows: Sequence[Row]) -> Table:
    """Create the table with the most important numbers of each row."""
    header = (
        "artifact",
        "device",
        "engine",
        "precision",
        "median ms",
        "latency / that of the first artifact",
        "top-1",
        "top-5",
        "images/s",
        "threads",
        "batch",
        "scenario",
        "size MB",
        "integer MACs",
    )
    return Table(SUMMARY_TITLE, header, tuple(_make_summary_cells(row) for row in rows))


def _make_summary_cells(row: Row) -> tuple[str, ...]:
    artifact, latency, accuracy = row.artifact, row.latency, row.accuracy
    return (
        row.file_name,
        row.device.name,
        row.engine,
        artifact.precision,
        format_number(latency.median_ms) if latency else "",
        format_ratio(latency.ratio, decimals=3) if latency and latency.ratio else "",
        f"{accuracy.top1:.2f}%" if accuracy else "",
        f"{accuracy.top5:.2f}%" if accuracy else "",
        f"{latency.images_per_s:.1f}" if latency else "",
        describe_threads(artifact.engine),
        str(latency.batch) if latency else "",
        latency.scenario if latency else "",
        f"{artifact.size_bytes / 1e6:.1f}",
        format_share(artifact.int8_mac_share),
    )


def make_device_table(records: Sequence[Record]) -> Table:
    """Create the table of the devices of the records."""
    header = (
        "device",
        "processor",
        "instruction sets",
        "cores",
        "memory GiB",
        "governor",
        "clock before, MHz",
        "clock after, MHz",
        "architecture",
        "system",
    )
    rows = dict.fromkeys(_make_device_cells(record.device) for record in records)
    return Table("Devices", header, tuple(rows))


def _make_device_cells(device: DeviceInfo) -> tuple[str, ...]:
    return (
        device.name,
        device.cpu,
        ", ".join(device.cpu_features),
        str(device.core_count),
        f"{device.memory_bytes / 2**30:.1f}" if device.memory_bytes else "",
        device.governor or "",
        f"{device.clock_before_mhz:.0f}" if device.clock_before_mhz else "",
        f"{device.clock_after_mhz:.0f}" if device.clock_after_mhz else "",
        device.architecture,
        device.system,
    )


def make_settings_table(records: Sequence[Record]) -> Table:
    """Create the table with the date and the settings of each record."""
    rows = []
    for record in records:
        settings = [*record.settings.items(), *record.dataset.items()]
        shown_settings = [
            f"{key} {value}" for key, value in settings if value not in (None, "", False, 0)
        ]
        rows.append(
            (
                record.date,
                record.kind,
                record.device.name,
                record.package,
                ", ".join(shown_settings),
            )
        )
    header = ("date", "kind", "device", "package", "settings")
    return Table("Settings", header, tuple(rows))


def format_number(value: float | None) -> str:
    """Format a number with two decimals; "" for None."""
    return "" if value is None else f"{value:.2f}"


def format_percentile(value_ms: float | None, fraction: float, sample_count: int) -> str:
    """Format a percentile, or state why it is missing.

    Args:
        value_ms: The percentile in milliseconds; None if it is missing.
        fraction: The percentile as a fraction, a key of `MIN_SAMPLES`.
        sample_count: Number of samples.
    """
    if value_ms is not None:
        return format_number(value_ms)
    needed_count = MIN_SAMPLES[fraction]
    if sample_count < needed_count:
        return f"withheld: needs {needed_count} queries, has {sample_count}"
    return "not reported"  # by the benchmark program of an engine on Android


def format_share(share: float | None) -> str:
    """Format a fraction from 0 to 1 as a percentage; "" for None."""
    return "" if share is None else f"{share:.0%}"


def format_ratio(ratio: LatencyRatio | RatioInterval, decimals: int = 2) -> str:
    """Format a ratio with its 95% interval, or state why there is no interval."""
    if ratio.low is None or ratio.high is None:
        return f"{ratio.median:.{decimals}f} (interval withheld: needs {MIN_TURNS} turns or more)"
    median, low, high = (f"{x:.{decimals}f}" for x in (ratio.median, ratio.low, ratio.high))
    return f"{median} ({low} to {high})"
