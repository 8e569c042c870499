"""Creates the sensitivity tables of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinyvit.bench.record import DeviceInfo, Record, SensitivityResult, UnitSensitivity
from tinyvit.bench.report.rows import describe_engine
from tinyvit.bench.report.tables import Table, format_number

SENSITIVITY_TITLE = "Sensitivity to int8"
UNIT_HEADER = ("unit", "share of error", "SNR, dB", "cosine", "MACs")
"""Columns of a table of units; see `format_unit_cells`."""


def list_sensitivities(records: Sequence[Record]) -> list[tuple[DeviceInfo, SensitivityResult]]:
    """Return the sensitivity results of records, each with its device."""
    return [(record.device, result) for record in records for result in record.sensitivity]


def make_sensitivity_tables(records: Sequence[Record]) -> list[Table]:
    """Create the sensitivity tables; they have no rows if no sensitivity was measured."""
    results = list_sensitivities(records)
    return [_make_network_table(results), _make_unit_table(results)]


def describe_computation(result: SensitivityResult) -> str:
    """Return how the figures were computed: a phrase that the name of an engine follows."""
    return "simulated in PyTorch for" if result.is_simulated else "measured in"


def format_unit_cells(unit: UnitSensitivity, total_macs: int) -> tuple[str, ...]:
    """Format one unit for a table with the columns `UNIT_HEADER`.

    Args:
        unit: The unit.
        total_macs: Number of multiply-accumulates of all units.
    """
    return (
        unit.unit,
        format_share_of_error(unit.share),
        format_number(unit.snr_db),
        "" if unit.cosine is None else f"{unit.cosine:.5f}",
        f"{unit.macs / total_macs:.1%}" if total_macs else "",
    )


def format_share_of_error(share: float) -> str:
    """Format a share of the error in percent with one decimal."""
    return f"{share:.1%}"


def _make_network_table(results: Sequence[tuple[DeviceInfo, SensitivityResult]]) -> Table:
    header = (
        "artifact",
        "device",
        "float32 weights",
        "computed",
        "images",
        "logits' mean square error",
        "logits' SNR, dB",
        "logits' cosine",
    )
    rows = []
    for device, result in results:
        network = result.network
        rows.append(
            (
                Path(result.artifact.path).name,
                device.name,
                Path(result.reference).name,
                f"{describe_computation(result)} {describe_engine(result.artifact.engine)}",
                str(network.image_count),
                f"{network.mean_square_error:.3g}",
                format_number(network.snr_db),
                "" if network.cosine is None else f"{network.cosine:.5f}",
            )
        )
    return Table(SENSITIVITY_TITLE, header, tuple(rows))


def _make_unit_table(results: Sequence[tuple[DeviceInfo, SensitivityResult]]) -> Table:
    rows = []
    for device, result in results:
        units = result.network.units
        total_macs = sum(unit.macs for unit in units)
        rows += [
            (
                Path(result.artifact.path).name,
                device.name,
                *format_unit_cells(unit, total_macs),
            )
            for unit in units
        ]
    return Table(
        "Sensitivity of each unit (layer or attention module)",
        ("artifact", "device", *UNIT_HEADER),
        tuple(rows),
    )
