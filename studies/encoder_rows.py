"""Measures the rows of the tables of `tinyvit.studies.encoders`, and formats them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tinyvit.bench.artifact_info import read_size_bytes
from tinyvit.bench.latency.cold_start import measure_cold_start
from tinyvit.bench.latency.interleave import Timing, run_interleaved
from tinyvit.bench.latency.percentiles import RatioInterval, ratio_interval
from tinyvit.bench.profilers import random_input
from tinyvit.bench.report.console import format_table_row
from tinyvit.bench.report.tables import format_ratio
from tinyvit.manifest import Manifest
from tinyvit.progress import Progress
from tinyvit.runtimes.artifact import read_artifact
from tinyvit.runtimes.base import Runtime, RuntimeOptions
from tinyvit.runtimes.registry import engines_for_format, open_runtime
from tinyvit.text.plurals import format_count

_OPTIONS = RuntimeOptions(threads=1, allow_foreign_operators=True)
"""How files are opened; other tools wrote the stock files."""
STOCK_ENGINES = ("onnxruntime", "openvino")
"""Engines that the stock export is measured in. Files for other engines are compared with the
first."""


@dataclass(frozen=True)
class EncoderFile:
    """A file to measure.

    Attributes:
        path: The file.
        engine: Name of the engine; None for the best one.
        is_stock: Whether another tool exported it, so that others are compared with it.
    """

    path: Path
    engine: str | None = None
    is_stock: bool = False

    def find_engine(self) -> str:
        """Return the name of the engine that runs the file."""
        return self.engine or engines_for_format(read_artifact(self.path).format)[0]


@dataclass(frozen=True)
class EncoderRow:
    """The measurements of a file.

    Attributes:
        name: Name of the file.
        engine: Name and version of the engine.
        size_bytes: Size of all files of the artifact.
        median_ms: Median latency of one image in milliseconds.
        ratio: Latency divided by that of the stock export; None for the stock export, and if there
            is none.
        peak_bytes: Largest memory of a process that runs the file; None where it is not known.
        fidelity: How similar the outputs are to those of the float32 network.
    """

    name: str
    engine: str
    size_bytes: int
    median_ms: float
    ratio: RatioInterval | None
    peak_bytes: int | None
    fidelity: str


def measure_files(
    files: Sequence[EncoderFile], rounds: int, progress: Progress
) -> list[EncoderRow]:
    """Time files alternately in one process, and measure the memory of each in a new process.

    Args:
        files: The files; each is opened with one thread.
        rounds: Number of timing rounds, in each of which every file runs twice; the first of the
            two is not counted.
        progress: Receives messages.

    Returns:
        One row for each file.
    """
    with ExitStack() as stack:
        runs: dict[str, Callable[[], object]] = {}
        engines = []
        for index, file in enumerate(files):
            runtime = stack.enter_context(open_runtime(file.path, file.engine, _OPTIONS))
            engines.append(_name_engine(runtime))
            runs[str(index)] = _make_run(runtime)
        progress.message(f"timing {', '.join(file.path.name for file in files)}")
        timings = run_interleaved(runs, rounds=rounds, warmup=1, runs_per_turn=2)
    rows = []
    for file, engine, timing in zip(files, engines, timings.values()):
        progress.message(f"measuring the memory of {file.path.name}")
        arguments = ["--runtime", file.find_engine(), "--threads", "1"]
        if file.is_stock:
            arguments.append("--allow-foreign-operators")
        rows.append(
            EncoderRow(
                name=file.path.name,
                engine=engine,
                size_bytes=read_size_bytes(file.path),
                median_ms=timing.median_ms,
                ratio=_compare_with_stock(file, files, timing, timings),
                peak_bytes=measure_cold_start(str(file.path), arguments, 1).peak_memory_bytes,
                fidelity=describe_fidelity(read_artifact(file.path).manifest),
            )
        )
    return rows


def _name_engine(runtime: Runtime) -> str:
    """Return the name and the version of an engine, without the hash of its build."""
    info = runtime.describe()
    return f"{info.engine} {info.version.split('-')[0]}"


def _make_run(runtime: Runtime) -> Callable[[], object]:
    """Make a function that runs a random image."""
    spec = runtime.inputs[0]
    # Only the batch can have a name instead of a number.
    shape = tuple(size if isinstance(size, int) else 1 for size in spec.shape)
    image = random_input(shape, spec.dtype)
    return lambda: runtime.run_outputs(image)


def _compare_with_stock(
    file: EncoderFile,
    files: Sequence[EncoderFile],
    timing: Timing,
    timings: Mapping[str, Timing],
) -> RatioInterval | None:
    """Divide the latency of a file by that of the stock export in the engine it is compared in."""
    own_engine = file.find_engine()
    stock_engine = own_engine if own_engine in STOCK_ENGINES else STOCK_ENGINES[0]
    for index, other in enumerate(files):
        if other.is_stock and not file.is_stock and other.engine == stock_engine:
            return ratio_interval(timing, timings[str(index)])
    return None


def describe_fidelity(manifest: Manifest | None) -> str:
    """Describe how similar the outputs of an artifact are to those of the float32 network.

    Args:
        manifest: The manifest of the artifact; None for a file of another tool.

    Returns:
        For int8, the cosine similarity, the share of equal nearest neighbors and the number of
        units in float32; for other precisions, the largest difference; empty if nothing is known.
    """
    if manifest is None:
        return ""
    if manifest.quantization is None:
        return f"difference {manifest.parity.max_abs_diff:.1g}" if manifest.parity else ""
    record = manifest.quantization
    parts = []
    if record.cosine is not None:
        parts.append(f"cosine {record.cosine:.4f}")
    if record.neighbor_agreement is not None:
        parts.append(f"{record.neighbor_agreement:.0f}% of neighbors")
    if record.float_units:
        parts.append(f"{format_count(len(record.float_units), 'unit')} in float32")
    return ", ".join(parts)


def format_table(rows: Sequence[EncoderRow]) -> list[str]:
    """Return the lines of a Markdown table.

    Args:
        rows: The rows, in order.
    """
    lines = [
        "| file | engine | MB | ms | / stock export | peak MiB | fidelity to float32 |",
        "|---" * 7 + "|",
    ]
    for row in rows:
        cells = (
            row.name,
            row.engine,
            f"{row.size_bytes / 1e6:.1f}",
            f"{row.median_ms:.1f}",
            format_ratio(row.ratio) if row.ratio is not None else "",
            f"{row.peak_bytes / 2**20:.0f}" if row.peak_bytes else "",
            row.fidelity,
        )
        lines.append(format_table_row(cells))
    return lines
