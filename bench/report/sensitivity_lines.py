"""Formats the sensitivity of units for the terminal."""

from __future__ import annotations

from pathlib import Path

from tinyvit.bench.record import NetworkSensitivity, Record, SensitivityResult
from tinyvit.bench.report.console import format_table_row
from tinyvit.bench.report.rows import describe_engine
from tinyvit.bench.report.sensitivity_tables import (
    UNIT_HEADER,
    describe_computation,
    format_share_of_error,
    format_unit_cells,
)
from tinyvit.bench.report.tables import format_number


def format_sensitivity_record(record: Record, row_count: int) -> list[str]:
    """Format the warnings of a record, and the most sensitive units of each artifact.

    Args:
        record: The record.
        row_count: Largest number of units of an artifact that are listed.
    """
    device = record.device
    lines = [
        f"device {device.name}: {device.cpu} ({', '.join(device.cpu_features)}), cores:"
        f" {device.core_count}",
        f"{record.dataset.get('source', 'images from an unknown source')}; {record.date}",
        *(f"warning: {warning}" for warning in record.warnings),
    ]
    for result in record.sensitivity:
        lines += ["", *_format_result(result), *format_units(result.network, row_count)]
    return lines


def _format_result(result: SensitivityResult) -> list[str]:
    artifact = result.artifact
    return [
        f"{Path(artifact.path).name} compared with the float32 weights of"
        f" {Path(result.reference).name}, {describe_computation(result)}"
        f" {describe_engine(artifact.engine)}, {result.network.image_count} images",
    ]


def format_units(network: NetworkSensitivity, row_count: int) -> list[str]:
    """Format the error of the logits, and a table of the most sensitive units.

    Args:
        network: The sensitivity of a network.
        row_count: Largest number of units in the table.
    """
    units = network.units
    total_macs = sum(unit.macs for unit in units)
    lines = [
        f"logits: mean square error {network.mean_square_error:.3g}, signal-to-noise ratio"
        f" {format_number(network.snr_db) or 'not defined'} dB",
        "",
        format_table_row(UNIT_HEADER),
        "|---" * len(UNIT_HEADER) + "|",
        *(format_table_row(format_unit_cells(unit, total_macs)) for unit in units[:row_count]),
    ]
    if len(units) > row_count:
        share = format_share_of_error(sum(unit.share for unit in units[row_count:]))
        lines.append(
            f"{len(units) - row_count} further units have {share} of the error together (--json"
            " lists them)"
        )
    return lines
