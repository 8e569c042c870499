"""Formats the page and the record of `tinyvit.studies.engine_limits`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tinyvit.bench.record import PACKAGE_VERSION, DeviceInfo, current_time
from tinyvit.bench.report.console import format_table_row
from tinyvit.bench.report.tables import format_share
from tinyvit.studies.engine_bounds import Bounds, EngineTimes, compute_bounds
from tinyvit.studies.figures_page import describe_device, make_device_record
from tinyvit.studies.kernel_kinds import KINDS
from tinyvit.studies.machine_peaks import MachinePeaks
from tinyvit.text.plurals import format_count

_EXPLANATION = """\
This page is written by `python -m tinyvit.studies.engine_limits`.

- **ms** is the median time of one run without a profiler. The next four columns are from the
  engine's own profile, and **dispatch** is the rest; in ExecuTorch also operators that XNNPACK
  does not run. A profiler slows kernels a little, so that the rest can be negative.
- **products** are matrix products and convolutions, with all that an engine fuses into them: in
  OpenVINO also GELU, sums and quantization, and the whole attention with its softmax.
  **elementwise** is GELU, softmax, LayerNorm, sums and means. **quantization** is quantizing,
  dequantizing and other conversions. **movement** is transposing, reshaping, copying, padding and
  reordering.
- **bound** is the time of the multiply-accumulates at the machine's peaks, int8 ones at the int8
  peak and all others at the float32 peak, or the time of reading the weights once if that is
  longer. No engine can be faster with the same multiplications, if the peaks are the highest
  rates.
- **traffic** is the time of reading the weights, and of writing and reading every activation, once
  each, at the rate of the memory. It is not a bound, because activations stay in caches. This rate
  changes from run to run, so compare only rows of one run."""
_COLUMNS = ("file", "engine", "int8 MACs", "ms", *KINDS, "dispatch", "bound", "time / bound")
_COLUMNS_AFTER = ("traffic", "what is missing")


@dataclass(frozen=True)
class LimitsRecord:
    """Everything that the study measured.

    Attributes:
        date: When the measurement began.
        device: The machine.
        peaks: The peaks of the machine, for each number of threads.
        rows: The times of each file and number of threads.
        warnings: Disturbances of the measurement.
    """

    date: str
    device: DeviceInfo
    peaks: tuple[MachinePeaks, ...] = ()
    rows: tuple[EngineTimes, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def begin(cls, device: DeviceInfo) -> LimitsRecord:
        """Return a record of the present time without measurements.

        Args:
            device: The machine.
        """
        return cls(current_time(), device)

    def add(self, rows: Sequence[EngineTimes], peaks: MachinePeaks) -> LimitsRecord:
        """Return a copy with the measurements of one more number of threads.

        Args:
            rows: The times of the files.
            peaks: The peaks with the same number of threads.
        """
        return replace(self, peaks=(*self.peaks, peaks), rows=(*self.rows, *rows))

    def bound(self, row: EngineTimes) -> Bounds:
        """Compute the lowest times of a row.

        Args:
            row: One of `rows`.
        """
        peaks = next(peaks for peaks in self.peaks if peaks.threads == row.threads)
        return compute_bounds(row, peaks)


def make_record(record: LimitsRecord) -> dict[str, Any]:
    """Return the record as a JSON object, with the bounds of each row.

    Args:
        record: The measurements.
    """
    rows = [
        {**asdict(row), "dispatch_ms": row.dispatch_ms, "bounds": asdict(record.bound(row))}
        for row in record.rows
    ]
    return {
        "date": record.date,
        "package": PACKAGE_VERSION,
        "device": make_device_record(record.device),
        "warnings": record.warnings,
        "peaks": [asdict(peaks) for peaks in record.peaks],
        "rows": rows,
    }


def format_page(record: LimitsRecord) -> list[str]:
    """Return the lines of the page.

    Args:
        record: The measurements.
    """
    device = record.device
    lines = [
        f"# Where the time goes on {device.architecture}, {device.cpu}",
        "",
        f"{describe_device(device)}; {record.date}; {PACKAGE_VERSION}.",
        "",
        *filter(None, (_summarize_ratios(record, peaks.threads) for peaks in record.peaks)),
        "",
        *_EXPLANATION.splitlines(),
        "",
        *(f"- {warning}" for warning in record.warnings),
        "",
        "## Peaks of the machine",
        "",
        *_format_peaks(record.peaks),
    ]
    for peaks in record.peaks:
        lines += ["", f"## {format_count(peaks.threads, 'thread').capitalize()}", ""]
        rows = [row for row in record.rows if row.threads == peaks.threads]
        lines += _format_rows(rows, record)
    return lines


def _summarize_ratios(record: LimitsRecord, threads: int) -> str:
    """Return a sentence about how far the files are from the bound; "" if no time is known."""
    ranges = []
    for kind, is_integer in (("in float32", False), ("in int8", True)):
        ratios = [
            ratio
            for row in record.rows
            if row.threads == threads
            and bool(row.integer_macs) == is_integer
            and (ratio := _compute_ratio(row, record)) is not None
        ]
        if ratios:
            ranges.append(f"{min(ratios):.2f} to {max(ratios):.2f} times the bound {kind}")
    if not ranges:
        return ""
    return f"On {format_count(threads, 'thread')}, a run takes {', and '.join(ranges)}."


def _compute_ratio(row: EngineTimes, record: LimitsRecord) -> float | None:
    """Return the time of a run divided by its bound; None if either is unknown."""
    lowest_ms = record.bound(row).lowest_ms
    return None if lowest_ms is None or row.wall_ms is None else row.wall_ms / lowest_ms


def _format_peaks(all_peaks: Sequence[MachinePeaks]) -> list[str]:
    """Return the table of all measured rates; the highest of each precision is bold."""
    lines = [
        "| threads | measured | engine | side of the matrices | billion MACs per s, or GB per s |",
        "|---" * 5 + "|",
    ]
    for peaks in all_peaks:
        threads = str(peaks.threads)
        for rate in peaks.products:
            value = f"{rate.gmacs_per_s:.0f}"
            if rate == peaks.find_best(rate.precision):
                value = f"**{value}**"
            cells = (threads, f"{rate.precision} product", rate.engine, str(rate.matrix_size))
            lines.append(format_table_row((*cells, value)))
        memory = f"{peaks.memory_gb_per_s:.0f}"
        lines.append(format_table_row((threads, "copy of 64 MiB per thread", "NumPy", "", memory)))
    return lines


def _format_rows(rows: Sequence[EngineTimes], record: LimitsRecord) -> list[str]:
    """Return the table of one number of threads."""
    columns = (*_COLUMNS, *_COLUMNS_AFTER)
    lines = [format_table_row(columns), "|---" * len(columns) + "|"]
    for row in rows:
        bounds = record.bound(row)
        ratio = _compute_ratio(row, record)
        cells = (
            row.file,
            row.engine,
            format_share(_compute_integer_share(row)),
            _format_ms(row.wall_ms),
            *(_format_ms(row.kind_ms.get(kind)) for kind in KINDS),
            _format_ms(row.dispatch_ms),
            _format_ms(bounds.lowest_ms),
            "" if ratio is None else f"{ratio:.2f}",
            _format_ms(bounds.traffic_ms),
            row.note,
        )
        lines.append(format_table_row(cells))
    return lines


def _compute_integer_share(row: EngineTimes) -> float | None:
    if row.integer_macs is None or row.float_macs is None:
        return None
    return row.integer_macs / max(1, row.integer_macs + row.float_macs)


def _format_ms(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
