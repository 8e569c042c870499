"""Describes the speed of an exported artifact, compared with its baseline, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyvit.bench.machine import describe_cpu
from tinyvit.export.targets import get_target

if TYPE_CHECKING:
    from tinyvit.export.artifact_writer import ExportedArtifact
    from tinyvit.export.checks.baseline_timing import SpeedComparison

MAX_USEFUL_TIME_RATIO = 0.9
"""Ratio of int8 latency to float32 latency above which float32 is recommended instead."""


def describe_speed(artifact: ExportedArtifact) -> str:
    """Describe the latency of an artifact, and how it compares with that of its baseline.

    Args:
        artifact: The artifact.

    Returns:
        A text without a line break; that nothing was measured if the target's files do not run on
        this machine, or are for an NPU and run on its CPU.
    """
    speed = artifact.speed
    if speed is None:
        return _explain_missing_speed(artifact)
    if artifact.search is None:
        return _describe_float_speed(artifact, speed)
    return _describe_int8_speed(artifact, speed)


def _explain_missing_speed(artifact: ExportedArtifact) -> str:
    manifest = artifact.manifest
    if manifest.compilation is not None:
        # A processor can run some of these files, and there are emulators for the others.
        npu = get_target(manifest.target).engine_title
        return f"not measured: a time on this machine says nothing about the time on {npu}"
    return f"not measured: {manifest.target} files do not run on this machine"


def _describe_float_speed(artifact: ExportedArtifact, speed: SpeedComparison) -> str:
    latency_ms, baseline_ms = speed.artifact.median_ms, speed.baseline.median_ms
    text = (
        f"{latency_ms:.1f} ms{_describe_batch(artifact)} in {artifact.engine.engine}, "
        f"{_compare_latencies(latency_ms, baseline_ms)} {speed.baseline_name} "
        f"({baseline_ms:.1f} ms; {_describe_runs(speed)})"
    )
    if artifact.manifest.precision == "float16":
        text += f", computed in {artifact.engine.precision} on this processor ({describe_cpu()})"
    return text


def _compare_latencies(latency_ms: float, baseline_ms: float) -> str:
    """Return a phrase such as "1.4 times as fast as" or "1.4 times slower than"."""
    slowdown = round(latency_ms / baseline_ms, 1)
    if slowdown > 1:
        return f"{slowdown:.1f} times slower than"
    return f"{baseline_ms / latency_ms:.1f} times as fast as"


def _describe_int8_speed(artifact: ExportedArtifact, speed: SpeedComparison) -> str:
    precision, time_ratio = artifact.manifest.precision, 1 / speed.speedup
    text = (
        f"{precision} takes {time_ratio:.2f} times as long as {speed.baseline_name}, "
        f"by the median of the ratios of {len(speed.artifact.turns_ms)} rounds "
        f"({speed.artifact.median_ms:.1f} and {speed.baseline.median_ms:.1f} ms"
        f"{_describe_batch(artifact)}; {_describe_runs(speed)}; {describe_cpu()})"
    )
    gains_little = time_ratio > MAX_USEFUL_TIME_RATIO
    if precision == "int8" and gains_little and not speed.disturbances:
        text += "; int8 gains little on this processor: use float32 here"
    return text


def _describe_batch(artifact: ExportedArtifact) -> str:
    batch = artifact.manifest.outputs[0].shape[0]
    return f" for {batch} images" if isinstance(batch, int) and batch > 1 else ""


def _describe_runs(speed: SpeedComparison) -> str:
    # The artifact and the baseline run equally often, because every round has a turn of both.
    run_count = len(speed.artifact.samples_ms)
    text = f"medians of {run_count} alternating runs each, on one thread"
    if speed.disturbances:
        text += f"; not reliable, because {' and '.join(list_disturbances(speed))}"
    return text


def list_disturbances(speed: SpeedComparison) -> list[str]:
    """Return what disturbed the measurement of a latency; see `SpeedComparison.disturbances`.

    Their remedies are left out: they are about tinyvit-bench, which measures for longer.
    """
    return [disturbance.partition(":")[0] for disturbance in speed.disturbances]
