"""Formats records as the text that the tinyvit-bench commands print."""

from __future__ import annotations

from pathlib import Path

from tinyvit.bench.compare import Change, RecordComparison
from tinyvit.bench.record import AccuracyResult, LatencyResult, Record
from tinyvit.bench.report.rows import describe_engine, describe_threads
from tinyvit.bench.report.tables import format_percentile, format_ratio

_MAX_CLASSES = 5
"""Maximum number of classes per artifact that are listed."""


def format_latency_record(record: Record) -> list[str]:
    """Format the warnings, the latencies, and the precision and device of each artifact."""
    device = record.device
    lines = [
        f"device {device.name}: {device.cpu} ({', '.join(device.cpu_features)}), cores:"
        f" {device.core_count}",
        f"timed: {record.settings['timed']}",
        f"date: {record.date}",
        *(f"warning: {warning}" for warning in record.warnings),
        "",
        "| artifact | engine | batch | median ms | p90 | p99 | min to max | images/s |"
        " latency / first artifact's |",
        "|---" * 9 + "|",
        *(_latency_row(result) for result in record.latency),
        "",
    ]
    for result in record.latency:
        lines += _latency_details(result)
    for baseline in record.baselines:
        name, ratio = Path(baseline.artifact_path).name, format_ratio(baseline.ratio)
        lines.append(
            f"{baseline.name}: {baseline.median_ms:.2f} ms; {name} / {baseline.name} = {ratio}"
        )
    return lines


def format_accuracy_record(record: Record) -> list[str]:
    """Format the warnings, the accuracies, and the comparisons with the reference."""
    lines = [
        f"{record.dataset['source']}; {record.date}",
        *(f"warning: {warning}" for warning in record.warnings),
        "",
        "| artifact | engine | images | top-1 (95% interval) | top-5 | expected calibration error |"
        " images/s |",
        "|---" * 7 + "|",
        *(_accuracy_row(result) for result in record.accuracy),
    ]
    for result in record.accuracy:
        lines += _reference_details(result)
    return lines


def format_preprocess_check(record: Record) -> list[str]:
    """Format the accuracy with each variant of the preprocessing, and the conclusion."""
    lines = [
        f"{record.dataset['source']}; {record.date}",
        "",
        "| preprocessing | top-1 | wrong to correct | correct to wrong | McNemar's p |",
        "|---" * 5 + "|",
    ]
    for result in record.accuracy:
        comparison = result.reference
        cells = (
            f"{comparison.better} | {comparison.worse} | {comparison.p_value:.2g}"
            if comparison
            else " | | "
        )
        lines.append(f"| {result.preprocess} | {result.top1:.2f}% | {cells} |")
    return [*lines, "", *record.warnings]


def format_comparison(comparison: RecordComparison) -> list[str]:
    """Format the change of each artifact, and the results without a counterpart."""
    lines = ["| artifact | before | after | change (95% interval) | |", "|---|---|---|---|---|"]
    lines += [_change_row(change) for change in comparison.changes]
    return lines + [f"in only one of the records: {name}" for name in comparison.unmatched]


def _latency_row(result: LatencyResult) -> str:
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
    return f"| {' | '.join(cells)} |"


def _latency_details(result: LatencyResult) -> list[str]:
    artifact = result.artifact
    share = artifact.int8_mac_share
    lines = [
        f"{Path(artifact.path).name}, threads {describe_threads(artifact.engine)}, batch"
        f" {result.batch}: {artifact.precision or 'unknown precision'} on {artifact.engine.device}"
        + ("" if share is None else f", {share:.0%} of the multiply-accumulates in integer kernels")
    ]
    if result.p99_limit_ms is not None:
        lines.append(
            f"  {result.queries_per_s:.1f} queries per second, the highest rate with a 99th"
            f" percentile below {result.p99_limit_ms:g} ms"
        )
    if result.stages_ms:
        stages = ", ".join(f"{stage} {ms:.2f} ms" for stage, ms in result.stages_ms.items())
        lines.append(f"  stages: {stages}")
    if result.cold_start:
        start = result.cold_start
        peak = start.peak_memory_bytes
        lines.append(
            f"  cold start: import {start.import_ms:.0f} ms, load {start.load_ms:.0f} ms,"
            f" first inference {start.first_inference_ms:.0f} ms"
            + ("" if peak is None else f"; peak memory {peak / 2**20:.0f} MiB")
        )
    if result.peak_share is not None:
        lines.append(f"  {result.peak_share:.0%} of the speed that the device's peak rates allow")
    for operator in result.operators:
        suffix = " (integer)" if operator.is_integer else ""
        lines.append(
            f"  {operator.time_ms:8.2f} ms  {operator.name} x {operator.node_count}{suffix}"
        )
    return lines


def _accuracy_row(result: AccuracyResult) -> str:
    is_partial = result.classified_count != result.total_count
    low, high = result.top1_interval
    cells = (
        Path(result.artifact.path).name,
        result.artifact.engine.engine,
        f"{result.classified_count}" + (f" of {result.total_count}" if is_partial else ""),
        f"{result.top1:.2f}% ({low:.1f} to {high:.1f})",
        f"{result.top5:.2f}%",
        f"{result.expected_calibration_error:.1f}%",
        f"{result.images_per_s:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _reference_details(result: AccuracyResult) -> list[str]:
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
    losses = [
        row
        for row in result.classes
        if row.reference_top1 is not None and row.top1 < row.reference_top1
    ]
    for row in losses[:_MAX_CLASSES]:
        line = f"  {row.reference_top1:.1f}% -> {row.top1:.1f}% of {row.image_count} images"
        lines.append(f"{line}  {row.label}  {row.wnid}".rstrip())
    return lines


def _change_row(change: Change) -> str:
    if change.kind == "latency":
        before, after = f"{change.before:.2f} ms", f"{change.after:.2f} ms"
        interval = f"x {change.change:.3f} ({change.low:.3f} to {change.high:.3f})"
    else:
        before, after = f"{change.before:.2f}%", f"{change.after:.2f}%"
        interval = f"{change.change:+.2f} ({change.low:+.2f} to {change.high:+.2f}) points"
    verdict = "REGRESSION" if change.is_regression else "ok"
    return f"| {change.artifact} | {before} | {after} | {interval} | {verdict} |"
