"""Formats records as the text that the tinyvit-bench commands print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinyvit.bench.compare import Change, RecordComparison
from tinyvit.bench.record import AccuracyResult, LatencyResult, Record
from tinyvit.bench.report.rows import describe_engine, describe_threads
from tinyvit.bench.report.tables import format_percentile, format_ratio

_MAX_CLASSES = 5
"""Maximum number of classes with a loss of accuracy that are listed for an artifact."""


def format_latency_record(record: Record) -> list[str]:
    """Format the warnings, the latencies, the details of each artifact, and the baselines."""
    device = record.device
    lines = [
        f"device {device.name}: {device.cpu} ({', '.join(device.cpu_features)}), cores:"
        f" {device.core_count}",
        f"timed: {record.settings.get('timed', 'not stated')}",
        f"date: {record.date}",
        *(f"warning: {warning}" for warning in record.warnings),
        "",
        "| artifact | engine | batch | median ms | p90 | p99 | min to max | images/s |"
        " latency / that of the first artifact |",
        "|---" * 9 + "|",
        *(_format_latency_row(result) for result in record.latency),
        "",
    ]
    for result in record.latency:
        lines += _format_latency_details(result)
    for baseline in record.baselines:
        name, ratio = Path(baseline.artifact_path).name, format_ratio(baseline.ratio)
        lines.append(
            f"{baseline.name}: {baseline.median_ms:.2f} ms; {name} / {baseline.name} = {ratio}"
        )
    return lines


def format_accuracy_record(record: Record) -> list[str]:
    """Format the warnings, the accuracies, and the comparisons with the reference."""
    lines = [
        f"{record.dataset.get('source', 'images from an unknown source')}; {record.date}",
        *(f"warning: {warning}" for warning in record.warnings),
        "",
        "| artifact | engine | images | top-1 (95% interval) | top-5 |"
        " confidence error (expected calibration error, ECE) | images/s |",
        "|---" * 7 + "|",
        *(_format_accuracy_row(result) for result in record.accuracy),
    ]
    for result in record.accuracy:
        lines += _format_reference_details(result)
    return lines


def format_preprocess_check(record: Record) -> list[str]:
    """Format the accuracy with each kind of preprocessing, and the conclusion."""
    lines = [
        f"{record.dataset.get('source', 'images from an unknown source')}; {record.date}",
        "",
        "| preprocessing | top-1 | wrong to correct | correct to wrong | McNemar's p |",
        "|---" * 5 + "|",
    ]
    for result in record.accuracy:
        comparison = result.reference
        # The row of the artifact's own preprocessing, to which the other rows are compared.
        cells = ("", "", "")
        if comparison:
            cells = (str(comparison.better), str(comparison.worse), f"{comparison.p_value:.2g}")
        lines.append(format_table_row((result.preprocess, f"{result.top1:.2f}%", *cells)))
    conclusion = record.warnings
    return [*lines, "", *conclusion]


def format_comparison(comparison: RecordComparison) -> list[str]:
    """Format the warnings, the limit, the changes, and the results in only one of the records."""
    lines = [f"warning: {warning}" for warning in comparison.warnings]
    lines += [
        _format_limit(comparison),
        "",
        "| artifact | before | after | change (95% interval) | |",
        "|---|---|---|---|---|",
    ]
    lines += [_format_change_row(change) for change in comparison.changes]
    return lines + [f"in only one of the records: {name}" for name in comparison.unmatched]


def _format_limit(comparison: RecordComparison) -> str:
    if comparison.kind == "latency":
        return (
            f"limit: the latency may increase by {100 * comparison.limit:g}%, that is x"
            f" {1 + comparison.limit:g} (--max-regress)"
        )
    return f"limit: top-1 accuracy may fall by {comparison.limit:g} points (--max-drop)"


def format_table_row(cells: Sequence[str]) -> str:
    r"""Return a row of a table; "|" inside a cell becomes "\|", as in Markdown."""
    escaped_cells = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped_cells)} |"


def _format_latency_row(result: LatencyResult) -> str:
    engine = result.artifact.engine
    has_range = result.min_ms is not None and result.max_ms is not None
    cells = (
        Path(result.artifact.path).name,
        f"{describe_engine(engine)}, threads {describe_threads(engine)}",
        str(result.batch),
        f"{result.median_ms:.2f}",
        format_percentile(result.p90_ms, 0.9, result.sample_count),
        format_percentile(result.p99_ms, 0.99, result.sample_count),
        f"{result.min_ms:.2f} to {result.max_ms:.2f}" if has_range else "",
        f"{result.images_per_s:.1f}",
        format_ratio(result.ratio) if result.ratio else "",
    )
    return format_table_row(cells)


def _format_latency_details(result: LatencyResult) -> list[str]:
    """Format precision, device, and the results that were requested by options, as lines."""
    artifact = result.artifact
    integer_share = ""
    if artifact.int8_mac_share is not None:
        integer_share = (
            f", {artifact.int8_mac_share:.0%} of the multiply-accumulates in integer kernels"
        )
    lines = [
        f"{Path(artifact.path).name}, threads {describe_threads(artifact.engine)}, batch"
        f" {result.batch}: {artifact.precision or 'unknown precision'} on {artifact.engine.device}"
        f"{integer_share}"
    ]
    if result.p99_limit_ms is not None and result.queries_per_s is not None:
        lines.append(
            f"  {result.queries_per_s:.1f} queries per second, the highest rate with a 99th"
            f" percentile of at most {result.p99_limit_ms:g} ms"
        )
    if result.stages_ms:
        stages = ", ".join(f"{stage} {ms:.2f} ms" for stage, ms in result.stages_ms.items())
        lines.append(f"  stages: {stages}")
    if result.cold_start:
        cold_start = result.cold_start
        peak_memory = ""
        if cold_start.peak_memory_bytes is not None:
            peak_memory = f"; peak memory {cold_start.peak_memory_bytes / 2**20:.0f} MiB"
        lines.append(
            f"  cold start: import {cold_start.import_ms:.0f} ms, load {cold_start.load_ms:.0f} ms,"
            f" first inference {cold_start.first_inference_ms:.0f} ms{peak_memory}"
        )
    if result.peak_share is not None:
        lines.append(f"  {result.peak_share:.0%} of the speed that the device's peak rates allow")
    for operator in result.operators:
        suffix = " (integer)" if operator.is_integer else ""
        lines.append(
            f"  {operator.time_ms:8.2f} ms  {operator.name} x {operator.node_count}{suffix}"
        )
    return lines


def _format_accuracy_row(result: AccuracyResult) -> str:
    has_unreadable_images = result.classified_count != result.total_count
    total = f" of {result.total_count}" if has_unreadable_images else ""
    low, high = result.top1_interval
    cells = (
        Path(result.artifact.path).name,
        result.artifact.engine.engine,
        f"{result.classified_count}{total}",
        f"{result.top1:.2f}% ({low:.1f} to {high:.1f})",
        f"{result.top5:.2f}%",
        f"{result.expected_calibration_error:.1f}%",
        f"{result.images_per_s:.1f}",
    )
    return format_table_row(cells)


def _format_reference_details(result: AccuracyResult) -> list[str]:
    """Format the comparison with the reference, and the classes with the largest loss."""
    comparison = result.reference
    if comparison is None:
        return []
    lines = [
        "",
        f"{Path(result.artifact.path).name} compared with {Path(comparison.path).name}:"
        f" {comparison.agreement:.2f}% agreement; {comparison.worse} images went from correct to"
        f" wrong, {comparison.better} from wrong to correct (McNemar's p ="
        f" {comparison.p_value:.2g})",
    ]
    # `result.classes` begins with the classes that lose most.
    worse_classes = [
        accuracy
        for accuracy in result.classes
        if accuracy.reference_top1 is not None and accuracy.top1 < accuracy.reference_top1
    ]
    for accuracy in worse_classes[:_MAX_CLASSES]:
        change = f"{accuracy.reference_top1:.1f}% -> {accuracy.top1:.1f}%"
        line = f"  {change} of {accuracy.image_count} images  {accuracy.label}  {accuracy.wnid}"
        lines.append(line.rstrip())
    return lines


def _format_change_row(change: Change) -> str:
    if change.kind == "latency":
        before, after = f"{change.before:.2f} ms", f"{change.after:.2f} ms"
        change_and_interval = f"x {change.change:.3f}"
        interval_format = " ({:.3f} to {:.3f})"
    else:
        before, after = f"{change.before:.2f}%", f"{change.after:.2f}%"
        change_and_interval = f"{change.change:+.2f} points"
        interval_format = " ({:+.2f} to {:+.2f})"
    if change.low is None or change.high is None:
        change_and_interval += " (no interval)"
    else:
        change_and_interval += interval_format.format(change.low, change.high)
    verdict = "REGRESSION" if change.is_regression else "ok"
    if change.inconclusive_reason:
        verdict = f"inconclusive: {change.inconclusive_reason}"
    return format_table_row((change.artifact, before, after, change_and_interval, verdict))
