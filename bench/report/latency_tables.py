"""Creates the latency tables of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinyvit.bench.record import LatencyResult, Record
from tinyvit.bench.report.rows import Row
from tinyvit.bench.report.tables import (
    Table,
    format_number,
    format_percentile,
    format_ratio,
    format_share,
)

LATENCY_TITLE = "Latency"
STAGES_TITLE = "Stages from image file to predicted classes (median ms)"


def make_latency_tables(records: Sequence[Record], rows: Sequence[Row]) -> list[Table]:
    """Create the latency tables. A table has no rows if its values were not measured."""
    return [
        _make_percentile_table(rows),
        _make_stage_table(rows),
        _make_cold_start_table(rows),
        _make_operator_table(rows),
        _make_baseline_table(records),
        _make_peak_table(rows),
    ]


def _make_percentile_table(rows: Sequence[Row]) -> Table:
    header = (
        "artifact",
        "device",
        "queries",
        "min ms",
        "median",
        "mean",
        "p90",
        "p99",
        "upper bound of p99 (99% confidence)",
        "max",
        "warm-up queries",
    )
    cells = tuple(_make_percentile_cells(row, row.latency) for row in rows if row.latency)
    return Table(LATENCY_TITLE, header, cells)


def _make_percentile_cells(row: Row, latency: LatencyResult) -> tuple[str, ...]:
    count = latency.sample_count
    percentiles = (
        format_percentile(latency.p90_ms, 0.9, count),
        format_percentile(latency.p99_ms, 0.99, count),
        format_percentile(latency.p99_bound_ms, 0.99, count),
    )
    minimum_and_averages = (latency.min_ms, latency.median_ms, latency.mean_ms)
    steadiness = ", not steady" if latency.is_steady is False else ""
    return (
        row.label,
        row.device.name,
        str(latency.sample_count),
        *map(format_number, minimum_and_averages),
        *percentiles,
        format_number(latency.max_ms),
        f"{latency.warmup_queries}{steadiness}",
    )


def _make_stage_table(rows: Sequence[Row]) -> Table:
    rows_with_stages = [
        (row, row.latency.stages_ms) for row in rows if row.latency and row.latency.stages_ms
    ]
    stage_names = list(
        dict.fromkeys(name for _, stages_ms in rows_with_stages for name in stages_ms)
    )
    cells = []
    for row, stages_ms in rows_with_stages:
        formatted_times = [format_number(stages_ms.get(name)) for name in stage_names]
        cells.append((row.label, row.device.name, *formatted_times))
    return Table(STAGES_TITLE, ("artifact", "device", *stage_names), tuple(cells))


def _make_cold_start_table(rows: Sequence[Row]) -> Table:
    header = (
        "artifact",
        "device",
        "import ms",
        "load ms",
        "first inference ms",
        "peak memory MiB",
    )
    cells = []
    for row in rows:
        if row.latency and (cold_start := row.latency.cold_start):
            peak_memory_bytes = cold_start.peak_memory_bytes
            cells.append(
                (
                    row.label,
                    row.device.name,
                    f"{cold_start.import_ms:.0f}",
                    f"{cold_start.load_ms:.0f}",
                    f"{cold_start.first_inference_ms:.1f}",
                    f"{peak_memory_bytes / 2**20:.0f}" if peak_memory_bytes else "",
                )
            )
    return Table("Cold start of a new process", header, tuple(cells))


def _make_operator_table(rows: Sequence[Row]) -> Table:
    header = ("artifact", "device", "operator", "nodes", "ms per inference", "arithmetic")
    cells = [
        (
            row.label,
            row.device.name,
            operator.name,
            str(operator.node_count),
            f"{operator.time_ms:.2f}",
            "integer" if operator.is_integer else "",
        )
        for row in rows
        for operator in (row.latency.operators if row.latency else ())
    ]
    return Table("Operators, from the engine's profile", header, tuple(cells))


def _make_baseline_table(records: Sequence[Record]) -> Table:
    header = ("baseline", "artifact", "device", "baseline's median ms", "artifact / baseline")
    cells = [
        (
            baseline.name,
            Path(baseline.artifact_path).name,
            record.device.name,
            format_number(baseline.median_ms),
            format_ratio(baseline.ratio),
        )
        for record in records
        for baseline in record.baselines
    ]
    return Table("Baselines", header, tuple(cells))


def _make_peak_table(rows: Sequence[Row]) -> Table:
    header = (
        "artifact",
        "device",
        "float32 GMAC/s",
        "int8 GMAC/s",
        "memory GB/s",
        "threads for these rates",
        "share of peak speed",
    )
    cells = []
    for row in rows:
        rates = row.peak_rates
        if rates and row.latency and row.latency.peak_share is not None:
            cells.append(
                (
                    row.label,
                    row.device.name,
                    f"{rates.float32_gmacs_per_s:.0f}",
                    f"{rates.int8_gmacs_per_s:.0f}",
                    f"{rates.memory_gb_per_s:.0f}",
                    str(rates.threads),
                    format_share(row.latency.peak_share),
                )
            )
    return Table("Peak rates of the device", header, tuple(cells))
