"""The latency results of a benchmark record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tinyvit.bench.record.artifact_and_device import ArtifactInfo

Scenario = Literal["single-stream", "multi-stream", "server", "offline"]
"""When each query (one call, with one or more images) starts. The names are MLPerf Inference's."""
BASELINES = ("timm", "timm-compiled", "timm-export", "tool")
"""Baselines with which `--compare-to` can compare an artifact.

timm is timm's model in PyTorch; timm-compiled is the same with `torch.compile`; timm-export is the
same exported by `torch.onnx.export` and run by onnxruntime; tool is the benchmark program of the
artifact's engine, such as OpenVINO's benchmark_app, which runs the artifact's file.
"""


@dataclass(frozen=True)
class LatencyRatio:
    """The latency per image of an artifact, divided by that of a reference.

    Attributes:
        reference: Path of the reference artifact, followed by its engine, threads and batch if the
            same file is compared with other options; or name of the baseline.
        median: Median of the ratios of all rounds; below 1 if the artifact is faster than the
            reference. In each round, both are timed in one turn each, and the ratio of the round
            is that of the median latencies of these two turns.
        low: Lower end of the 95% confidence interval; None for fewer than `percentiles.MIN_TURNS`
            rounds.
        high: Upper end of the 95% confidence interval; None if `low` is.
    """

    reference: str
    median: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ColdStart:
    """Times and memory of new processes that each run an artifact; see the option --cold.

    In a record, each time is the median of all processes, and the peak memory is the highest.

    Attributes:
        import_ms: Time to import the engine's package.
        load_ms: Time to open the artifact.
        first_inference_ms: Time of the first inference.
        peak_memory_bytes: Peak memory of a process, which runs ten more inferences after the first;
            None if the system does not report it.
    """

    import_ms: float
    load_ms: float
    first_inference_ms: float
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class OperatorTime:
    """The total time of all graph nodes of one operator, from the engine's profile.

    Attributes:
        name: The engine's name of the kernel or operator.
        node_count: Number of nodes with this operator.
        time_ms: Total time of these nodes in one inference.
        is_integer: Whether the operator multiplies integers.
    """

    name: str
    node_count: int
    time_ms: float
    is_integer: bool


@dataclass(frozen=True)
class PeakRates:
    """The highest measured rates of the device (see `tinyvit.bench.latency.roofline`).

    Attributes:
        threads: Number of CPU threads with which the rates were measured.
        float32_gmacs_per_s: Billions of float32 multiply-accumulates per second.
        int8_gmacs_per_s: Billions of int8 multiply-accumulates per second.
        memory_gb_per_s: Bytes that are read plus bytes that are written, in 10**9 bytes per second.
    """

    threads: int
    float32_gmacs_per_s: float
    int8_gmacs_per_s: float
    memory_gb_per_s: float


@dataclass(frozen=True)
class BaselineResult:
    """The latency of a baseline, measured alternately with an artifact.

    Attributes:
        name: One of `BASELINES`, with the name of the benchmark program in place of "tool".
        artifact_path: Path of the artifact that is compared with the baseline.
        median_ms: Median latency of the baseline. For a benchmark program, which prints only its
            median, this is the median of these medians over several runs of the program.
        ratio: The artifact's latency divided by the baseline's. For a benchmark program, which runs
            the same file in the same engine, it should be close to 1.
    """

    name: str
    artifact_path: str
    median_ms: float
    ratio: LatencyRatio


@dataclass(frozen=True)
class LatencyResult:
    """Latencies of one artifact in one scenario, in milliseconds of wall-clock time.

    A query classifies `batch` images, and a sample is the latency of one query. Outliers are kept.
    If several artifacts are measured, they take turns; a turn is a short series of queries to one
    artifact.

    On Android, the engine's own benchmark program takes the measurements. Values that this program
    does not report are None.

    Attributes:
        artifact: The artifact and its engine.
        scenario: When each query started.
        batch: Images per query.
        sample_count: Number of samples.
        warmup_queries: Number of queries before the first sample.
        is_steady: Whether the latency was stable at the end of the warm-up.
        min_ms: Lowest sample.
        median_ms: Median of the samples.
        mean_ms: Mean of the samples.
        max_ms: Highest sample.
        p90_ms: 90th percentile; None for fewer than 64 samples (`percentiles.MIN_SAMPLES`).
        p99_ms: 99th percentile; None for fewer than 662 samples (`percentiles.MIN_SAMPLES`).
        p90_bound_ms: Upper bound of the 90th percentile with 99% confidence; None if there is no
            `p90_ms`.
        p99_bound_ms: Upper bound of the 99th percentile with 99% confidence; None if there is no
            `p99_ms`.
        images_per_s: Throughput in images per second; in the server scenario, the arrival rate.
        turns_ms: All samples in order of measurement, one inner tuple per turn; empty on Android.
        load_ms: Time to open the artifact.
        queries_per_s: Arrival rate of the queries; None except in the server scenario.
        p99_limit_ms: Limit of the 99th percentile, from the option --p99-ms. With a limit,
            `queries_per_s` is the highest rate of those tried at which `p99_bound_ms` is at most
            the limit. None if the option was not given.
        ratio: Latency per image divided by that of the record's first result. None for the first
            result, in the server scenario, and on Android.
        cold_start: Times and memory of new processes that run the artifact; None if not measured.
        stages_ms: Median time of each stage between the bytes of an image file and the predicted
            classes, by the stage's name; empty if only the network was timed.
        operators: The operators that take the most time; empty if not requested.
        gmacs_per_image: Billions of multiply-accumulates per image; None if unknown.
        peak_share: Shortest time per query that the device's peak rates allow, divided by the
            median latency, 0 to 1; None if unknown.
        benchmark_tool: Name of the engine's benchmark program that took the measurements; "" if
            this package took them.
    """

    artifact: ArtifactInfo
    scenario: Scenario
    batch: int
    sample_count: int
    warmup_queries: int
    is_steady: bool | None
    min_ms: float | None
    median_ms: float
    mean_ms: float | None
    max_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    p90_bound_ms: float | None
    p99_bound_ms: float | None
    images_per_s: float
    turns_ms: tuple[tuple[float, ...], ...]
    load_ms: float | None
    queries_per_s: float | None = None
    p99_limit_ms: float | None = None
    ratio: LatencyRatio | None = None
    cold_start: ColdStart | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    operators: tuple[OperatorTime, ...] = ()
    gmacs_per_image: float | None = None
    peak_share: float | None = None
    benchmark_tool: str = ""
