"""Benchmark records with invented numbers, for tests of reports and comparisons."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tinyvit.bench.latency.config import NETWORK_ALONE
from tinyvit.bench.record import (
    AccuracyResult,
    ArtifactInfo,
    BaselineResult,
    ClassAccuracy,
    ColdStart,
    DeviceInfo,
    LatencyRatio,
    LatencyResult,
    NetworkSensitivity,
    OperatorTime,
    PeakRates,
    Record,
    ReferenceComparison,
    SensitivityResult,
    UnitSensitivity,
)
from tinyvit.runtimes.base import RuntimeInfo

DESK = DeviceInfo(
    name="desk",
    system="Linux 6",
    architecture="x86_64",
    cpu="AMD EPYC",
    cpu_features=("AVX2",),
    core_count=2,
    memory_bytes=2**34,
    governor="powersave",
    clock_before_mhz=3000.0,
    clock_after_mhz=2900.0,
)

BOARD = DeviceInfo(
    name="board",
    system="Linux 5",
    architecture="aarch64",
    cpu="Cortex-A78",
    cpu_features=("dotprod",),
    core_count=4,
    memory_bytes=None,
    governor=None,
    clock_before_mhz=None,
)
"""A device that does not report its memory, governor and clock rate."""

MIN_SAMPLES_FOR_P99 = 662
"""A record with fewer samples does not state the 99th percentile."""

HOSTILE = "<script>alert('x')</script>|=1+1"
"""A path that would be markup in HTML, the border of a cell in Markdown, and a formula in CSV."""


def make_artifact(
    path: str, engine: str = "onnxruntime", precision: str = "float32"
) -> ArtifactInfo:
    """Make the description of an artifact that was measured on two threads."""
    return ArtifactInfo(
        path=path,
        sha256=(path.encode("utf-8", "surrogatepass").hex() * 64)[:64],
        size_bytes=5_000_000,
        model="demo",
        precision=precision,
        engine=RuntimeInfo(engine, "1.2.3-abc", "cpu", 2, precision),
        int8_mac_share=0.91 if precision == "int8" else None,
    )


def make_latency(
    path: str, typical_ms: float, *, turns: int = 30, seed: int = 0, **changes: Any
) -> LatencyResult:
    """Make a result with random times around `typical_ms`.

    Args:
        path: Path of the artifact.
        typical_ms: Typical time of a query in milliseconds; the times vary by about 2%.
        turns: Number of turns, of ten queries each.
        seed: Seed of the random times.
        changes: Fields of the result that replace the computed ones.
    """
    times = typical_ms * np.random.default_rng(seed).lognormal(0, 0.02, (turns, 10))
    has_p99 = times.size >= MIN_SAMPLES_FOR_P99
    result = LatencyResult(
        artifact=make_artifact(path),
        scenario="single-stream",
        batch=1,
        sample_count=times.size,
        warmup_queries=16,
        is_steady=True,
        min_ms=float(times.min()),
        median_ms=float(np.median(times)),
        mean_ms=float(times.mean()),
        max_ms=float(times.max()),
        p90_ms=float(np.quantile(times, 0.9)),
        p99_ms=float(np.quantile(times, 0.99)) if has_p99 else None,
        p90_bound_ms=float(np.quantile(times, 0.95)),
        p99_bound_ms=float(times.max()) if has_p99 else None,
        images_per_s=1000 / typical_ms,
        turns_ms=tuple(map(tuple, times.tolist())),
        load_ms=50.0,
    )
    return replace(result, **changes)


def make_accuracy(
    path: str, correct: int, images: int = 1000, reference: ReferenceComparison | None = None
) -> AccuracyResult:
    """Make a result in which `correct` of `images` classified images have the correct class."""
    top1 = 100 * correct / images
    return AccuracyResult(
        artifact=make_artifact(path),
        classified_count=images,
        unreadable_count=2,
        total_count=images + 2,
        top1=top1,
        top5=99.5,
        top1_interval=(max(0, top1 - 2.5), min(100, top1 + 2.5)),
        top5_interval=(98.8, 99.8),
        expected_calibration_error=3.2,
        preprocess="resize 235",
        images_per_s=50.0,
        reference=reference,
        classes=(
            ClassAccuracy(
                label=HOSTILE, wnid="n00000001", image_count=100, top1=70.0, reference_top1=75.0
            ),
        ),
    )


def make_latency_record(
    *results: LatencyResult, device: DeviceInfo = DESK, **changes: Any
) -> Record:
    """Make a record of latencies; `changes` replace some of its fields."""
    record = Record(
        kind="latency",
        date="2026-01-02T03:04:05+00:00",
        package="tinyvit-edge 1",
        device=device,
        settings={"timed": NETWORK_ALONE},
        warnings=(),
        latency=results,
    )
    return replace(record, **changes)


def make_accuracy_record(
    *results: AccuracyResult, device: DeviceInfo = DESK, **changes: Any
) -> Record:
    """Make a record of accuracies; `changes` replace some of its fields."""
    record = Record(
        kind="accuracy",
        date="2026-01-03T03:04:05+00:00",
        package="tinyvit-edge 1",
        device=device,
        settings={},
        warnings=(),
        accuracy=results,
        dataset={"source": "1000 images", "names_and_classes_sha256": "abc"},
    )
    return replace(record, **changes)


def make_sensitivity_record(device: DeviceInfo = DESK) -> Record:
    """Make a record of the sensitivity of three units of demo.int8.onnx on 64 images."""
    network = NetworkSensitivity(
        image_count=64,
        mean_square_error=0.0251,
        snr_db=24.125,
        cosine=0.99875,
        units=(
            UnitSensitivity("stages.0.conv", 0.02008, 0.8, 17.25, 0.9875, macs=3_000_000),
            UnitSensitivity(HOSTILE, 0.001, 0.04, 31.5, 0.99925, macs=1_000_000),
            UnitSensitivity("stages.3.exact", -0.0003, -0.012, None, 1.0, macs=0),
        ),
    )
    result = SensitivityResult(
        make_artifact("demo.int8.onnx", precision="int8"), "demo.onnx", False, network
    )
    return Record(
        kind="sensitivity",
        date="2026-01-04T03:04:05+00:00",
        package="tinyvit-edge 1",
        device=device,
        settings={},
        warnings=("two images cannot be read",),
        sensitivity=(result,),
        dataset={"source": "the first 64 of 100 images in val", "images": 64},
    )


def make_full_records() -> list[Record]:
    """Make records that together contain everything a report can show.

    Returns:
        Three latencies on DESK, two latencies on BOARD, and three accuracies on DESK.
    """
    detailed = make_latency(
        "demo.onnx",
        20,
        turns=70,
        stages_ms={"decode": 1.5, "resize": 2.25, "network": 16.0, "top-k": 0.125},
        cold_start=ColdStart(
            import_ms=120.0,
            load_ms=80.0,
            first_inference_ms=25.0,
            peak_memory_bytes=140 * 2**20,
        ),
        operators=(OperatorTime("QGemm", node_count=60, time_ms=5.5, is_integer=True),),
        peak_share=0.72,
    )
    ratio = LatencyRatio("demo.onnx", median=0.55, low=0.54, high=0.56)
    desk = make_latency_record(
        detailed,
        make_latency("demo.int8.onnx", 11, seed=1, ratio=ratio),
        make_latency(HOSTILE, 40, seed=2, is_steady=False),
        warnings=("other processes used 12% of a core",),
        failures=("x.pte: damaged",),
        peak_rates=PeakRates(
            threads=2, float32_gmacs_per_s=101, int8_gmacs_per_s=444, memory_gb_per_s=44
        ),
        baselines=(
            BaselineResult(
                name="benchmark_app",
                artifact_path="demo.onnx",
                median_ms=20.5,
                ratio=LatencyRatio("benchmark_app", median=0.98, low=0.95, high=1.01),
            ),
        ),
    )
    board = make_latency_record(
        make_latency("demo.onnx", 90, seed=3),
        make_latency("demo.int8.onnx", 50, seed=4),
        device=BOARD,
    )
    comparison = ReferenceComparison("demo.onnx", agreement=99.3, worse=5, better=2, p_value=0.45)
    accuracy = make_accuracy_record(
        make_accuracy("demo.onnx", 852),
        make_accuracy("demo.int8.onnx", 849, reference=comparison),
        make_accuracy(HOSTILE, 700),
    )
    return [desk, board, accuracy]
