"""The JSON record that a measurement produces: the device, the date, and one result per artifact.

`tinyvit-bench latency --json` and `accuracy --json` print one record; `report` and `compare` read
records. The format has a version, `SCHEMA`.
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
TOOL = f"tinyvit-edge {__version__}"
MAX_BYTES = 256 * 2**20
_REMEDY = "give a file with the output of tinyvit-bench latency --json or accuracy --json"

Kind = Literal["latency", "accuracy"]
Scenario = Literal["single-stream", "multi-stream", "server", "offline"]
"""How queries arrive; the names are those of MLPerf Inference."""
BASELINES = ("timm", "timm-compiled", "timm-export", "tool")
"""What an artifact can be compared with: timm's model run by PyTorch, the same compiled by
`torch.compile`, the same exported by `torch.onnx.export` and run by onnxruntime, and the benchmark
tool of the artifact's own engine."""
Scalar: TypeAlias = "str | int | float | bool | None"


def current_time() -> str:
    """Return the current UTC time to the second, in ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class DeviceInfo:
    """The machine on which the artifacts were measured.

    Attributes:
        name: Name of the board or the host, or the name that the user gave.
        system: Name and release of the operating system.
        machine: Architecture of the processor, such as "x86_64".
        cpu: Model of the processor.
        features: Instruction sets of the processor that decide its speed.
        cores: Number of processor cores that the process may use.
        memory_bytes: Physical memory; None if the system does not report it.
        governor: Frequency governor of the first core; None if the system does not report it.
        clock_mhz: Clock rate of the first core before measuring; None if not reported.
        clock_after_mhz: Clock rate of the first core after measuring; None if not reported.
    """

    name: str
    system: str
    machine: str
    cpu: str
    features: tuple[str, ...]
    cores: int
    memory_bytes: int | None
    governor: str | None
    clock_mhz: float | None
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
        engine: What ran the artifact, as the engine itself reports it.
        int8_mac_share: Share of the multiply-accumulates that ran in integer kernels, 0 to 1, as
            the engine reports it; None if the engine does not report it.
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
    """The latency of an artifact per image, divided by that of a reference.

    Attributes:
        reference: Path of the reference artifact, or name of the baseline.
        median: The ratio; below 1 where the artifact is faster than the reference.
        low: Lower end of the ratio's 95% interval.
        high: Upper end of the ratio's 95% interval.
    """

    reference: str
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class ColdStart:
    """The time and memory that a new process needs until its first inference is done.

    Attributes:
        import_ms: Time to import the engine's package.
        load_ms: Time to open the artifact.
        first_inference_ms: Time of the first inference after that.
        peak_memory_bytes: Most memory that the process held; None if the system does not report it.
    """

    import_ms: float
    load_ms: float
    first_inference_ms: float
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class OperatorTime:
    """All nodes of one kind in the profile of the engine.

    Attributes:
        name: Name of the kernel or operator in the engine.
        nodes: Number of nodes of this kind.
        time_ms: Time of all these nodes in one inference.
        is_integer: Whether they compute with integers.
    """

    name: str
    nodes: int
    time_ms: float
    is_integer: bool


@dataclass(frozen=True)
class PeakRates:
    """The highest rates that the machine reaches (see `bench.latency.roofline`).

    Attributes:
        threads: CPU threads that were used.
        float32_gmacs_per_s: Multiply-accumulates of float32 in 10**9 per second.
        int8_gmacs_per_s: Multiply-accumulates of 8-bit integers in 10**9 per second.
        memory_gb_per_s: Bytes read from and written to memory in 10**9 per second.
    """

    threads: int
    float32_gmacs_per_s: float
    int8_gmacs_per_s: float
    memory_gb_per_s: float


@dataclass(frozen=True)
class BaselineResult:
    """The latency of a baseline that was measured beside an artifact.

    Attributes:
        name: One of `BASELINES`, or the name of the engine's benchmark tool.
        artifact_path: Path of the artifact that the baseline is compared with.
        median_ms: Median latency of the baseline; a benchmark tool reports it itself.
        ratio: The artifact's latency divided by the baseline's. A benchmark tool times the same
            file in the same engine, so that its ratio should be 1.
    """

    name: str
    artifact_path: str
    median_ms: float
    ratio: LatencyRatio


@dataclass(frozen=True)
class LatencyResult:
    """Latencies of one artifact in one scenario, in milliseconds of wall-clock time.

    One sample is the latency of one query, which has `batch` images. No sample is left out. The
    fields that may be None are None where a benchmark tool took the samples and does not report
    them, or for the reason given below.

    Attributes:
        artifact: The artifact and its engine.
        scenario: How the queries arrived.
        batch: Images per query.
        samples: Number of samples.
        warmup_queries: Queries before the first sample.
        is_steady: Whether the latency was steady at the end of the warm-up.
        min_ms: Lowest sample.
        median_ms: Median of the samples.
        mean_ms: Mean of the samples.
        max_ms: Highest sample.
        p90_ms: 90th percentile; None for fewer samples than `percentiles.MIN_SAMPLES_ABOVE`.
        p99_ms: 99th percentile; None for fewer samples than `percentiles.MIN_SAMPLES_ABOVE`.
        p90_bound_ms: Upper bound of the 90th percentile with 99% confidence; None likewise.
        p99_bound_ms: Upper bound of the 99th percentile with 99% confidence; None likewise.
        images_per_s: Images per second.
        turns_ms: All samples in order, grouped by the turns in which the artifacts alternated.
        load_ms: Time to open the artifact.
        queries_per_s: Arrival rate of the queries in the server scenario; None in the others.
        p99_limit_ms: If `queries_per_s` is the highest rate whose 99th percentile stays below a
            limit, that limit; otherwise None.
        ratio: Latency against the first artifact of the run; None for the first one itself.
        cold_start: What a new process needs; None if that was not measured.
        stages_ms: Median of each stage from the bytes of an image to its classes; empty if only
            the network was timed.
        operators: The operators that take the most time; empty if that was not requested.
        gmacs_per_image: Multiply-accumulates of one image in 10**9; None if unknown.
        peak_share: Share of the machine's peak rates that was reached, 0 to 1; None if unknown.
        benchmark_tool: Name of the tool that took the samples; "" if this package did.
    """

    artifact: ArtifactInfo
    scenario: Scenario
    batch: int
    samples: int
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
        wnid: WordNet id of the class; "" if the label has none.
        images: Number of images of the class.
        top1: Percentage of them whose predicted class is correct.
        reference_top1: The same for the reference artifact; None without a reference.
    """

    label: str
    wnid: str
    images: int
    top1: float
    reference_top1: float | None = None


@dataclass(frozen=True)
class ReferenceComparison:
    """The predictions of an artifact, compared image by image with those of a reference artifact.

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
        images: Number of images that were classified.
        unreadable: Number of images that could not be read.
        total: Number of images in the dataset.
        top1: Percentage of `images` whose predicted class is correct.
        top5: Percentage of `images` with a correct class among the first five, or among all
            classes of a model that has fewer.
        top1_interval: Wilson's 95% interval of `top1`, in percent.
        top5_interval: Wilson's 95% interval of `top5`, in percent.
        calibration_error: Expected calibration error of the predicted class's probability, with 15
            bins, in percent.
        preprocess: Description of the preprocessing that was used.
        images_per_s: Images per second, with reading and preprocessing.
        reference: Comparison with a reference artifact; None without one.
        classes: Accuracy per class. With a reference, classes that lost most come first; otherwise
            those with the lowest accuracy.
        predictions: Index of the predicted class of every image, -1 for an unreadable one; empty
            if that was not requested.
    """

    artifact: ArtifactInfo
    images: int
    unreadable: int
    total: int
    top1: float
    top5: float
    top1_interval: tuple[float, float]
    top5_interval: tuple[float, float]
    calibration_error: float
    preprocess: str
    images_per_s: float
    reference: ReferenceComparison | None = None
    classes: tuple[ClassAccuracy, ...] = ()
    predictions: tuple[int, ...] = ()


@dataclass(frozen=True)
class Record:
    """The results of one run of tinyvit-bench.

    Attributes:
        kind: What was measured.
        date: Start of the run, UTC, ISO 8601.
        tool: Name and version of this package.
        device: The machine.
        settings: Options of the run.
        warnings: What a reader must know before reading the numbers.
        failures: What was requested and could not be measured, each with its reason.
        latency: Results of a latency record.
        accuracy: Results of an accuracy record.
        dataset: Source, hash and number of images of an accuracy record's dataset.
        peak_rates: Highest rates of the machine; None if they were not measured.
        baselines: Baselines that were measured beside the artifacts of a latency record.
    """

    kind: Kind
    date: str
    tool: str
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
        """The results of the record's kind."""
        return self.latency if self.kind == "latency" else self.accuracy

    def to_json(self) -> str:
        """Return the record as one line of JSON: its fields, "schema", and "results"."""
        data = asdict(self)
        results = {"latency": data.pop("latency"), "accuracy": data.pop("accuracy")}[self.kind]
        return json.dumps({"schema": SCHEMA, **data, "results": results}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes, name: str) -> Record:
        """Parse what `to_json` returned.

        Args:
            text: The JSON text, from an untrusted source; bytes are UTF-8.
            name: What to call the record in an error.

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
