"""Formats the Markdown page of the project's published figures from benchmark records.

The "stock export" is timm's model, exported by torch.onnx.export without changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinyvit.bench.latency.interleave import Timing
from tinyvit.bench.latency.percentiles import ratio_interval
from tinyvit.bench.record import AccuracyResult, DeviceInfo, LatencyResult, Record
from tinyvit.bench.report.console import format_table_row
from tinyvit.bench.report.rows import describe_engine
from tinyvit.bench.report.tables import format_ratio, format_share

SUFFIXES = {
    "onnx": ".onnx",
    "ort": ".ort",
    "openvino": ".xml",
    "executorch": ".pte",
    "litert": ".tflite",
}
"""Export target -> file suffix, for the targets that run on a CPU of any system."""
NO_IMAGES_FOLDER = "no-images"
"""Name of the folder of int8 files that were calibrated without images."""
VARIANTS = ("tiny_vit_5m_224", "tiny_vit_21m_224", "tiny_vit_21m_512")
"""TinyViT variants of which this project's export is compared with the stock export."""


@dataclass(frozen=True)
class FigureRecords:
    """The benchmark records from which the page is made.

    Attributes:
        one_thread: Latency of the demo model's files with one thread.
        two_threads: Latency of the demo model's files with two threads.
        accuracy: Accuracy of the demo model's files, `demo.onnx` first, and of the int8 files in
            the folder `NO_IMAGES_FOLDER`.
        baselines: Latency records with baselines; empty if not measured.
        converters: Latency of this project's files and of those that the engines' own converters
            made; None if not measured.
        stock: Latency of the stock export and of this project's export, one record per variant of
            `VARIANTS`; empty if not measured.
    """

    one_thread: Record
    two_threads: Record
    accuracy: Record
    baselines: tuple[Record, ...] = ()
    converters: Record | None = None
    stock: tuple[Record, ...] = ()


def describe_device(device: DeviceInfo) -> str:
    """Describe the processor and the memory of a machine on one line.

    Args:
        device: The machine.
    """
    memory_gib = (device.memory_bytes or 0) / 2**30
    features = f" ({', '.join(device.cpu_features)})" if device.cpu_features else ""
    return f"{device.cpu}{features}, {device.core_count} cores, {memory_gib:.0f} GiB"


def make_device_record(device: DeviceInfo) -> dict[str, Any]:
    """Return a machine as a JSON object. Its name is left out, because it is that of the host.

    Args:
        device: The machine.
    """
    return {key: value for key, value in asdict(device).items() if key != "name"}


def format_page(records: FigureRecords) -> list[str]:
    """Return the lines of the page.

    Args:
        records: The benchmark records. A table is left out if its records were not measured.
    """
    record = records.two_threads
    device = record.device
    warnings = [
        *_select_machine_warnings(records.two_threads),
        *_select_machine_warnings(records.one_thread),
    ]
    tables = {
        "int8 and float32, demo model": _make_int8_table(records),
        "int8 calibrated without images, demo model": _make_no_images_table(records.accuracy),
        "Every engine, compared with onnxruntime in float32": _make_engine_table(records),
        "This project's export and the stock export (`torch.onnx.export` of timm's model),"
        " float32, two threads": _make_stock_table(records.stock),
        "This project's files and those of the engines' own converters (litert-torch,"
        " ExecuTorch), float32, two threads": _make_converter_table(records.converters),
        "Baselines, two threads": _make_baseline_table(records.baselines),
    }
    lines = [
        f"# {device.architecture}, {device.cpu}",
        "",
        f"{describe_device(device)}; {record.date}; {record.package}.",
        "",
        "This page is written by `python -m tinyvit.studies.figures`. The machine is shared with"
        " others, so compare ratios",
        "rather than latencies. All artifacts are measured in one process, in alternating turns. A"
        " ratio is the median over the",
        "turns, with its 95% interval.",
        "",
        *(f"- {warning}" for warning in dict.fromkeys(warnings)),
    ]
    for title, table in tables.items():
        if table:
            lines += ["", f"## {title}", "", *table]
    return lines


def _select_machine_warnings(record: Record) -> list[str]:
    """Return the warnings about the machine; those about single artifacts are left out."""
    # These words are in the warnings of `bench.latency` about an artifact whose latency changed
    # during the measurement, or had not settled when it began.
    return [
        warning
        for warning in record.warnings
        if "became" not in warning and "had not settled" not in warning
    ]


def _make_int8_table(records: FigureRecords) -> list[str]:
    one_thread = _index_by_file_name(records.one_thread)
    two_threads = _index_by_file_name(records.two_threads)
    accuracies = {
        _file_name(result): result
        for result in records.accuracy.accuracy
        if not _has_no_images(result)
    }
    reference = records.accuracy.accuracy[0]
    lines = [
        f"Top-1 on {reference.classified_count} images; float32: {reference.top1:.1f}%.",
        "",
        "| target | top-1 (95% interval) | agreement with `demo.onnx` | size / float32 |"
        " latency / float32, 1 thread | latency / float32, 2 threads | integer MACs |",
        "|---" * 7 + "|",
    ]
    for target, suffix in SUFFIXES.items():
        float32_name, int8_name = f"demo{suffix}", f"demo.int8{suffix}"
        if float32_name not in one_thread or int8_name not in one_thread:
            continue
        accuracy = accuracies[int8_name]
        low, high = accuracy.top1_interval
        int8_bytes = one_thread[int8_name].artifact.size_bytes
        float32_bytes = one_thread[float32_name].artifact.size_bytes
        cells = (
            f"`{target}`",
            f"{accuracy.top1:.1f} ({low:.1f} to {high:.1f})",
            f"{accuracy.reference.agreement:.1f}%" if accuracy.reference else "",
            f"{int8_bytes / float32_bytes:.2f}",
            _format_ratio(one_thread[int8_name], one_thread[float32_name]),
            _format_ratio(two_threads[int8_name], two_threads[float32_name]),
            format_share(two_threads[int8_name].artifact.int8_mac_share),
        )
        lines.append(format_table_row(cells))
    return lines


def _make_no_images_table(record: Record) -> list[str]:
    reference, int8_results = record.accuracy[0], filter(_has_no_images, record.accuracy)
    lines = [
        f"Top-1 on {reference.classified_count} images; float32: {reference.top1:.1f}%. The int8"
        " files were calibrated with images that the exporter makes, without photographs.",
        "",
        "| artifact | top-1 (95% interval) | agreement with `demo.onnx` |"
        " worse / better than `demo.onnx` |",
        "|---" * 4 + "|",
    ]
    for accuracy in int8_results:
        low, high = accuracy.top1_interval
        comparison = accuracy.reference
        cells = (
            _file_name(accuracy),
            f"{accuracy.top1:.1f} ({low:.1f} to {high:.1f})",
            f"{comparison.agreement:.1f}%" if comparison else "",
            f"{comparison.worse} / {comparison.better}" if comparison else "",
        )
        lines.append(format_table_row(cells))
    return lines


def _make_engine_table(records: FigureRecords) -> list[str]:
    one_thread = _index_by_file_name(records.one_thread)
    two_threads = _index_by_file_name(records.two_threads)
    lines = [
        "| artifact | engine | MB | ms, one thread | / `demo.onnx` | ms, two threads |"
        " / `demo.onnx` | cold start ms | peak MiB |",
        "|---" * 9 + "|",
    ]
    for name, result in two_threads.items():
        cells = (
            name,
            describe_engine(result.artifact.engine),
            f"{result.artifact.size_bytes / 1e6:.1f}",
            f"{one_thread[name].median_ms:.1f}",
            _format_ratio(one_thread[name], one_thread["demo.onnx"]),
            f"{result.median_ms:.1f}",
            _format_ratio(result, two_threads["demo.onnx"]),
            *_make_cold_start_cells(result),
        )
        lines.append(format_table_row(cells))
    return lines


def _make_cold_start_cells(result: LatencyResult) -> tuple[str, str]:
    """Return the total time in milliseconds and the peak memory in MiB of a cold start."""
    cold_start = result.cold_start
    if cold_start is None:
        return "", ""
    total_ms = cold_start.import_ms + cold_start.load_ms + cold_start.first_inference_ms
    return f"{total_ms:.0f}", f"{(cold_start.peak_memory_bytes or 0) / 2**20:.0f}"


def _make_stock_table(records: Sequence[Record]) -> list[str]:
    if not records:
        return []
    lines = [
        "| variant | engine | stock ms | this project's ms | this project / stock |",
        "|---" * 5 + "|",
    ]
    for variant, record in zip(VARIANTS, records):
        for engine in ("onnxruntime", "openvino"):
            # In each engine, the stock export was measured first.
            stock, own = (
                result for result in record.latency if result.artifact.engine.engine == engine
            )
            times = f"{stock.median_ms:.1f} | {own.median_ms:.1f} | {_format_ratio(own, stock)}"
            lines.append(f"| {variant} | {engine} | {times} |")
    return lines


def _make_converter_table(record: Record | None) -> list[str]:
    if record is None:
        return []
    results = _index_by_file_name(record)
    lines = [
        "| engine | ms, engine's converter | ms, this project | this project / converter |",
        "|---" * 4 + "|",
    ]
    for engine, suffix in (("LiteRT", ".tflite"), ("ExecuTorch", ".pte")):
        stock, own = results[f"stock{suffix}"], results[f"demo{suffix}"]
        times = f"{stock.median_ms:.1f} | {own.median_ms:.1f} | {_format_ratio(own, stock)}"
        lines.append(f"| {engine} | {times} |")
    return lines


def _make_baseline_table(records: Sequence[Record]) -> list[str]:
    if not records:
        return []
    lines = [
        "| artifact | baseline | baseline's median ms | artifact / baseline |",
        "|---" * 4 + "|",
    ]
    for record in records:
        for baseline in record.baselines:
            name, ratio = Path(baseline.artifact_path).name, format_ratio(baseline.ratio)
            lines.append(f"| {name} | {baseline.name} | {baseline.median_ms:.1f} | {ratio} |")
    return lines


def _format_ratio(result: LatencyResult, reference: LatencyResult) -> str:
    """Format the ratio of two latencies of one record, with its 95% interval."""
    if result is reference:
        return "1"
    return format_ratio(ratio_interval(Timing(result.turns_ms), Timing(reference.turns_ms)))


def _index_by_file_name(record: Record) -> dict[str, LatencyResult]:
    return {_file_name(result): result for result in record.latency}


def _has_no_images(result: AccuracyResult) -> bool:
    """Return whether a file was calibrated without images."""
    return Path(result.artifact.path).parent.name == NO_IMAGES_FOLDER


def _file_name(result: LatencyResult | AccuracyResult) -> str:
    return Path(result.artifact.path).name
