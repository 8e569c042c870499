"""Benchmark records: the device, the date, and one result per artifact (exported model file).

`tinyvit-bench latency --json` and `accuracy --json` print one record; `report` and `compare` read
records. `SCHEMA` is the version of the JSON format.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from tinyvit import __version__
from tinyvit.errors import RequestError
from tinyvit.runtimes.base import RuntimeInfo
from tinyvit.serialization import parse_dataclass, parse_json

SCHEMA = 2
PACKAGE = f"tinyvit-edge {__version__}"
MAX_BYTES = 256 * 2**20
_REMEDY = "give a file with the output of tinyvit-bench latency --json or accuracy --json"

Kind = Literal["latency", "accuracy"]
Scenario = Literal["single-stream", "multi-stream", "server", "offline"]
"""When each query (one call, with one or more images) starts. The names are MLPerf Inference's."""
BASELINES = ("timm", "timm-compiled", "timm-export", "tool")
"""What `--compare-to` can measure beside an artifact.

timm is timm's model in PyTorch; timm-compiled is the same with `torch.compile`; timm-export is the
same exported by `torch.onnx.export` and run by onnxruntime; tool is the benchmark program of the
artifact's engine, such as benchmark_app, running the same file.
"""
Scalar: TypeAlias = "str | int | float | bool | None"


def current_time() -> str:
    """Return the current UTC time to the second, in ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class DeviceInfo:
    """The machine on which the artifacts were measured.

    Attributes:
        name: Name that the user gave; otherwise the name of the board or the host.
        system: Name and release of the operating system.
        architecture: Architecture of the processor, such as "x86_64".
        cpu: Model name of the processor.
        cpu_features: Instruction sets of the processor that affect the speed, such as "AVX2".
        core_count: Number of processor cores that the process may use.
        memory_bytes: Physical memory; None if the system does not report it.
        governor: Frequency governor of the first core, such as "performance"; None if the system
            does not report it.
        clock_before_mhz: Clock rate of the first core before measuring; None if not reported.
        clock_after_mhz: Clock rate of the first core after measuring; None if not reported.
    """

    name: str
    system: str
    architecture: str
    cpu: str
    cpu_features: tuple[str, ...]
    core_count: int
    memory_bytes: int | None
    governor: str | None
    clock_before_mhz: float | None
    clock_after_mhz: float | None = None


@dataclass(frozen=True)
class ArtifactInfo:
    """The artifact that was measured, and the engine that ran it.

    Attributes:
        path: Path of the artifact, as the user gave it.
        sha256: Hex digest of all files of the artifact (see `artifact_info.hash_artifact`).
        size_bytes: Size of all files of the artifact.
        model: Name of the model from the manifest; "" for a file without a manifest.
        precision: Precision from the manifest; "" for a file without a manifest.
        engine: Engine, version, device, threads and precision, as the engine reports them.
        int8_mac_share: Share of the multiply-accumulates (MACs) that ran in integer kernels, 0 to
            1, computed from the engine's profile; None if the engine has no profile.
    """

    path: str
    sha256: str
    size_bytes: int
    model: str
    precision: str
    engine: RuntimeInfo
    int8_mac_share: float | None


@dataclass(frozen=True)
class LatencyRatio:
    """The latency per image of an artifact, divided by that of a reference.

    Attributes:
        reference: Path of the reference artifact, or name of the baseline.
        median: Estimate of the ratio, a median; below 1 if the artifact is faster.
        low: Lower end of the 95% confidence interval.
        high: Upper end of the 95% confidence interval.
    """

    reference: str
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class ColdStart:
    """Time and memory of a new process up to the end of its first inference.

    Attributes:
        import_ms: Time to import the engine's package.
        load_ms: Time to open the artifact.
        first_inference_ms: Time of the first inference.
        peak_memory_bytes: Peak memory of the process; None if the system does not report it.
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
        is_integer: Whether the operator computes with integers.
    """

    name: str
    node_count: int
    time_ms: float
    is_integer: bool


@dataclass(frozen=True)
class PeakRates:
    """The highest measured rates of the device (see `tinyvit.bench.latency.roofline`).

    Attributes:
        threads: CPU threads that were used.
        float32_gmacs_per_s: Billions of float32 multiply-accumulates per second.
        int8_gmacs_per_s: Billions of int8 multiply-accumulates per second.
        memory_gb_per_s: Gigabytes (10**9 bytes) read and written per second, added up.
    """

    threads: int
    float32_gmacs_per_s: float
    int8_gmacs_per_s: float
    memory_gb_per_s: float


@dataclass(frozen=True)
class BaselineResult:
    """The latency of a baseline that was measured in turns with an artifact.

    Attributes:
        name: One of `BASELINES`, with the name of the benchmark program in place of "tool".
        artifact_path: Path of the artifact that is compared with the baseline.
        median_ms: Median latency of the baseline. Benchmark programs print it themselves.
        ratio: The artifact's latency divided by the baseline's. It should be 1 for a benchmark
            program, which runs the same file in the same engine.
    """

    name: str
    artifact_path: str
    median_ms: float
    ratio: LatencyRatio


@dataclass(frozen=True)
class LatencyResult:
    """Latencies of one artifact in one scenario, in milliseconds of wall-clock time.

    A query is one call with `batch` images, and a sample is the latency of one query. Outliers are
    kept. A run alternates between its artifacts; a turn is a short series of queries to one of
    them.

    On Android, the engine's benchmark program measures (`benchmark_tool`). Fields that it does not
    report are None.

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
        p90_bound_ms: Upper bound of the 90th percentile with 99% confidence; None if `p90_ms` is.
        p99_bound_ms: Upper bound of the 99th percentile with 99% confidence; None if `p99_ms` is.
        images_per_s: Throughput.
        turns_ms: All samples in order of measurement, one inner tuple per turn.
        load_ms: Time to open the artifact.
        queries_per_s: Arrival rate of the queries; None except in the server scenario.
        p99_limit_ms: The limit of `--p99-ms`: `queries_per_s` is then the highest rate whose 99th
            percentile is below it. None if no such rate was searched for.
        ratio: Latency divided by that of the run's first artifact; None for the first artifact.
        cold_start: Time and memory of a new process; None if not measured.
        stages_ms: Median time of each end-to-end stage by name, from the content of an image file
            to the predicted classes; empty if only the network was timed.
        operators: The operators that take the most time; empty if not requested.
        gmacs_per_image: Billions of multiply-accumulates per image; None if unknown.
        peak_share: Shortest time that the device's peak rates allow, divided by the median latency,
            0 to 1; None if unknown.
        benchmark_tool: Name of the program that measured; "" for this package.
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


@dataclass(frozen=True)
class ClassAccuracy:
    """The accuracy on the images of one class.

    Attributes:
        label: Name of the class.
        wnid: WordNet id of the class; "" if the class has none.
        image_count: Number of images of the class.
        top1: Top-1 accuracy on these images, in percent.
        reference_top1: Top-1 accuracy of the reference artifact, in percent; None without one.
    """

    label: str
    wnid: str
    image_count: int
    top1: float
    reference_top1: float | None = None


@dataclass(frozen=True)
class ReferenceComparison:
    """Comparison of an artifact's predictions with a reference artifact's, image by image.

    Attributes:
        path: Path of the reference artifact.
        agreement: Percentage of images for which both predict the same class.
        worse: Number of images that only the reference classifies correctly.
        better: Number of images that only the artifact classifies correctly.
        p_value: Two-sided p-value of McNemar's exact test on `worse` and `better`.
    """

    path: str
    agreement: float
    worse: int
    better: int
    p_value: float


@dataclass(frozen=True)
class AccuracyResult:
    """The accuracy of one artifact on labeled images.

    Attributes:
        artifact: The artifact and its engine.
        classified_count: Number of images that were read and classified.
        unreadable_count: Number of images that could not be read.
        total_count: Sum of the two.
        top1: Top-1 accuracy on the classified images, in percent.
        top5: Top-5 accuracy on the classified images, in percent. Always 100 for a model of at
            most five classes.
        top1_interval: Wilson's 95% interval of `top1`, in percent.
        top5_interval: Wilson's 95% interval of `top5`, in percent.
        expected_calibration_error: Mean difference between the probability of the predicted class
            and the accuracy, over 15 bins of the probability, in percent.
        preprocess: Description of the preprocessing.
        images_per_s: Throughput, including reading and preprocessing.
        reference: Comparison with the reference artifact; None without one.
        classes: Accuracy per class. With a reference, the classes with the largest loss come
            first; otherwise those with the lowest accuracy.
        predictions: Index of the predicted class of every image, -1 for an unreadable image;
            empty if not requested.
    """

    artifact: ArtifactInfo
    classified_count: int
    unreadable_count: int
    total_count: int
    top1: float
    top5: float
    top1_interval: tuple[float, float]
    top5_interval: tuple[float, float]
    expected_calibration_error: float
    preprocess: str
    images_per_s: float
    reference: ReferenceComparison | None = None
    classes: tuple[ClassAccuracy, ...] = ()
    predictions: tuple[int, ...] = ()


@dataclass(frozen=True)
class Record:
    """The results of one run of tinyvit-bench.

    Attributes:
        kind: Whether latency or accuracy was measured.
        date: Start of the run, UTC, ISO 8601.
        package: Name and version of this package.
        device: The machine on which the artifacts were measured.
        settings: Options of the run, by name.
        warnings: Sentences about anything that makes the results less reliable.
        failures: One line per artifact or baseline that could not be measured: its name and the
            reason.
        latency: Results of a latency record; empty for an accuracy record.
        accuracy: Results of an accuracy record; empty for a latency record.
        dataset: Facts about the images of an accuracy record: "source" (a description), "images"
            (their number) and "names_and_classes_sha256". Empty for a latency record.
        peak_rates: Highest rates of the device; None if not measured.
        baselines: Baselines that were measured beside the artifacts of a latency record.
    """

    kind: Kind
    date: str
    package: str
    device: DeviceInfo
    settings: dict[str, Scalar]
    warnings: tuple[str, ...]
    failures: tuple[str, ...] = ()
    latency: tuple[LatencyResult, ...] = ()
    accuracy: tuple[AccuracyResult, ...] = ()
    dataset: dict[str, Scalar] = field(default_factory=dict)
    peak_rates: PeakRates | None = None
    baselines: tuple[BaselineResult, ...] = ()

    @property
    def results(self) -> tuple[LatencyResult, ...] | tuple[AccuracyResult, ...]:
        """The latency results or the accuracy results, depending on `kind`."""
        return self.latency if self.kind == "latency" else self.accuracy

    def to_json(self) -> str:
        """Return the record as one line of JSON.

        The object has the fields of the record and "schema". The field "latency" or "accuracy" is
        called "results".
        """
        data = asdict(self)
        results = {"latency": data.pop("latency"), "accuracy": data.pop("accuracy")}[self.kind]
        return json.dumps({"schema": SCHEMA, **data, "results": results}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes, name: str) -> Record:
        """Parse the JSON text of a record.

        Args:
            text: JSON in the format of `to_json`, as text or UTF-8 bytes. It is not trusted.
            name: Name of the record in error messages.

        Raises:
            RequestError: The text is not a record, or has another schema version.
        """
        try:
            data = parse_json(text, MAX_BYTES)
            if not isinstance(data, dict) or "schema" not in data:
                raise ValueError("it has no schema version")
            _require_schema(data.pop("schema"), name)
            if "results" not in data or data.get("kind") not in get_args(Kind):
                raise ValueError("it has no results of a known kind")
            data[data["kind"]] = data.pop("results")
            return parse_dataclass(cls, data, name="it")
        except UnicodeDecodeError as error:
            raise RequestError(f"{name} is not text in UTF-8", _REMEDY) from error
        except ValueError as error:
            cause = f"{name} is not a record of tinyvit-bench ({error})"
            raise RequestError(cause, _REMEDY) from error


def _require_schema(schema: Any, name: str) -> None:
    if schema != SCHEMA:
        raise RequestError(
            f"{name} is a record of schema version {schema!r}, but this version of tinyvit-edge"
            f" reads version {SCHEMA}",
            "measure again, or read it with the version of tinyvit-edge that wrote it",
        )


def read_record(path: Path) -> Record:
    """Read a record from a file.

    Raises:
        RequestError: The file is not a record, or is larger than `MAX_BYTES`.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return Record.from_json(file.read(MAX_BYTES + 1), str(path))
