"""Records made of nothing, for tests of what reads them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinyvit.bench.accuracy.intervals import wilson
from tinyvit.bench.record import (
    AccuracyResult,
    ArtifactInfo,
    BaselineResult,
    ClassAccuracy,
    ColdStart,
    DeviceInfo,
    LatencyRatio,
    LatencyResult,
    OperatorTime,
    PeakRates,
    Record,
    ReferenceComparison,
)

DESK = DeviceInfo(
    "desk", "Linux 6", "x86_64", "AMD EPYC", ("AVX2",), 2, 2**34, "powersave", 3000.0, 2900.0
)
BOARD = DeviceInfo("board", "Linux 5", "aarch64", "Cortex-A78", ("dotprod",), 4, None, None, None)
HOSTILE = "<script>alert('x')</script>|=1+1"


def subject(name: str, engine: str = "onnxruntime", precision: str = "float32") -> ArtifactInfo:
    facts: dict[str, str | int | float | bool | None] = {
        "engine": engine,
        "version": "1.2.3-abc",
        "device": "cpu",
        "threads": 2,
    }
    return ArtifactInfo(
        name,
        (name.encode().hex() * 64)[:64],
        5_000_000,
        "demo",
        precision,
        facts,
        0.91 if precision == "int8" else None,
    )


def latency(
    name: str,
    ms: float,
    *,
    turns: int = 30,
    seed: int = 0,
    engine: str = "onnxruntime",
    **changes: object,
) -> LatencyResult:
    """Ten runs a turn around `ms`, of 2% noise."""
    times = ms * np.random.default_rng(seed).lognormal(0, 0.02, (turns, 10))
    enough = times.size >= 662
    made = LatencyResult(
        subject=subject(name, engine),
        scenario="single-stream",
        batch=1,
        samples=times.size,
        warmup_runs=16,
        is_steady=True,
        min_ms=float(times.min()),
        median_ms=float(np.median(times)),
        mean_ms=float(times.mean()),
        max_ms=float(times.max()),
        p90_ms=float(np.quantile(times, 0.9)),
        p99_ms=float(np.quantile(times, 0.99)) if enough else None,
        p90_bound_ms=float(np.quantile(times, 0.95)),
        p99_bound_ms=float(times.max()) if enough else None,
        images_per_s=1000 / ms,
        turns_ms=tuple(map(tuple, times.tolist())),
        load_ms=50.0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def accuracy(
    name: str,
    right: int,
    count: int = 1000,
    engine: str = "onnxruntime",
    against: ReferenceComparison | None = None,
) -> AccuracyResult:
    return AccuracyResult(
        subject=subject(name, engine),
        images=count,
        skipped=2,
        total=count + 2,
        top1=100 * right / count,
        top5=99.5,
        top1_interval=wilson(right, count),
        top5_interval=(98.8, 99.8),
        calibration_error=3.2,
        preprocess="resize 235",
        images_per_s=50.0,
        against=against,
        classes=(ClassAccuracy(HOSTILE, "n00000001", 100, 70.0, 75.0),),
    )


def timed(*results: LatencyResult, device: DeviceInfo = DESK, **changes: object) -> Record:
    made = Record(
        "latency",
        "2026-01-02T03:04:05+00:00",
        "tinyvit-edge 1",
        device,
        {"timed": "network alone"},
        (),
        latency=results,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def judged(*results: AccuracyResult, device: DeviceInfo = DESK, **changes: object) -> Record:
    data: dict[str, str | int | float | bool | None] = {"source": "1000 pictures", "sha256": "abc"}
    made = Record(
        "accuracy",
        "2026-01-03T03:04:05+00:00",
        "tinyvit-edge 1",
        device,
        {},
        (),
        accuracy=results,
        data=data,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def everything() -> list[Record]:
    """Two devices, five results, and one of each thing that a report can show."""
    whole = latency(
        "demo.onnx",
        20,
        turns=70,
        stages_ms={"decode": 1.5, "resize": 2.25, "network": 16.0, "top-k": 0.125},
    )
    whole = replace(
        whole,
        cold=ColdStart(120.0, 80.0, 25.0, 140 * 2**20),
        operators=(OperatorTime("QGemm", 60, 5.5, True),),
        peak_share=0.72,
    )
    fast = latency("demo.int8.onnx", 11, seed=1, ratio=LatencyRatio("demo.onnx", 0.55, 0.54, 0.56))
    slow = latency(HOSTILE, 40, seed=2, is_steady=False)
    peer = BaselineResult(
        "benchmark_app", "demo.onnx", 20.5, LatencyRatio("benchmark_app", 0.98, 0.95, 1.01)
    )
    desk = timed(
        whole,
        fast,
        slow,
        warnings=("other processes used 12% of a core",),
        refusals=("x.pte: damaged",),
        peak=PeakRates(2, 101, 444, 44),
        peers=(peer,),
    )
    right = judged(
        accuracy("demo.onnx", 852),
        accuracy("demo.int8.onnx", 849, against=ReferenceComparison("demo.onnx", 99.3, 5, 2, 0.45)),
        accuracy(HOSTILE, 700),
    )
    return [
        desk,
        timed(
            latency("demo.onnx", 90, seed=3), latency("demo.int8.onnx", 50, seed=4), device=BOARD
        ),
        right,
    ]
