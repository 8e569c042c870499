"""What a measurement leaves: one JSON record, of a versioned schema, with the device, the date and one result an artifact.

`tinyvit-bench latency --json` and `accuracy --json` print one; `report` and `compare` read them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, TypeAlias

from tinyvit import __version__
from tinyvit.errors import RequestError
from tinyvit.serialization import parse_dataclass

SCHEMA = 1
TOOL = f"tinyvit-edge {__version__}"
MAX_BYTES = 256 * 2**20

Kind = Literal["latency", "accuracy"]
Scenario = Literal["single-stream", "multi-stream", "server", "offline"]
RIVALS = ("timm", "timm-compiled", "timm-export", "tool")
"""timm's model run by torch as it is, and compiled by torch.compile; its torch.onnx.export in onnxruntime; the engine's own tool."""
"""As MLPerf Inference names them."""
Scalar: TypeAlias = "str | int | float | bool | None"


def now() -> str:
    """For a record's date: UTC, to the second, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class DeviceInfo:
    """The machine that was measured. features: of the processor, those that decide speed (machine.py). memory_bytes, governor,
    clock_mhz and, after measuring, clock_after_mhz: None where the system does not tell. name: the board's or the host's, as people
    call it."""

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
    """What was measured: a file, in an engine.

    artifact: as it was given. sha256, size_bytes: of all its files. model, precision: by its manifest, "" without one.
    engine: what really ran it, by the engine's own word: engine, version, device, threads, precision.
    int8_macs: the share of multiply-accumulates that ran in integer kernels, 0 to 1, read from the engine; None where it does not tell.
    """

    artifact: str
    sha256: str
    size_bytes: int
    model: str
    precision: str
    engine: dict[str, Scalar]
    int8_macs: float | None


@dataclass(frozen=True)
class LatencyRatio:
    """A picture's time as a part of another's, below 1 where it is faster, with its 95% interval. to: the other artifact."""

    to: str
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class ColdStart:
    """A new process: milliseconds to import, to open the file and to the first answer after that; the process's peak memory."""

    import_ms: float
    load_ms: float
    first_ms: float
    peak_bytes: int | None


@dataclass(frozen=True)
class OperatorTime:
    """All nodes of one kind in the engine's own profile: milliseconds a run, and whether they computed in integers."""

    name: str
    nodes: int
    ms: float
    is_integer: bool


@dataclass(frozen=True)
class PeakRates:
    """What this machine reaches on as many threads, where nothing but one large product or copy runs (roofline.py): multiply-accumulates
    in 10**9 a second, of float32 and of 8-bit integers, and 10**9 bytes a second from memory."""

    threads: int
    float32_gmacs: float
    int8_gmacs: float
    memory_gbytes: float


@dataclass(frozen=True)
class BaselineResult:
    """What another tool says of the same file, or of the same network by other means. median_ms: by its own measure. ratio: ours to
    theirs, below 1 where ours is faster; of a tool that times our file, 1 is agreement."""

    name: str
    artifact: str
    median_ms: float
    ratio: LatencyRatio


@dataclass(frozen=True)
class LatencyResult:
    """Times of one artifact in one scenario, milliseconds of wall clock; nothing is clipped.

    A sample is one query: `batch` pictures. median_ms to max_ms are of the samples; p90_ms and p99_ms are None where there are too few
    for the percentile, p90_bound_ms and p99_bound_ms are not exceeded by it with 99% confidence (percentiles.py).
    turns_ms: the samples, a tuple a turn, in the order they were taken. stages_ms: the median of each stage where the whole way from
    bytes to classes was timed, else empty. runs_per_s: of the server scenario the arrivals, None in others; meets_p99_ms: the bound
    that they were the most to meet. work_gmacs: multiply-accumulates of one picture in 10**9, None where they are not known.
    peak_share: the part of the machine's measured peak for such products that was reached. is_steady, min_ms, mean_ms, max_ms and load_ms
    are None where another tool took the times and does not tell.
    """

    subject: ArtifactInfo
    scenario: Scenario
    batch: int
    samples: int
    warmup_runs: int
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
    runs_per_s: float | None = None
    meets_p99_ms: float | None = None
    ratio: LatencyRatio | None = None
    cold: ColdStart | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    operators: tuple[OperatorTime, ...] = ()
    work_gmacs: float | None = None
    peak_share: float | None = None


@dataclass(frozen=True)
class ClassAccuracy:
    """One class: its pictures, and percent of them right, here and by the reference."""

    label: str
    wnid: str
    images: int
    top1: float
    reference_top1: float | None = None


@dataclass(frozen=True)
class ReferenceComparison:
    """The same pictures by a reference artifact. agreement: percent of equal answers. worse, better: pictures that went from right to
    wrong, and from wrong to right. p: McNemar's, exact and two-sided: how often chance alone would tilt them so."""

    to: str
    agreement: float
    worse: int
    better: int
    p: float


@dataclass(frozen=True)
class AccuracyResult:
    """One artifact on labeled pictures. top1, top5: percent of `images`; intervals: Wilson's, 95%. top5 counts the best of fewer where
    there are fewer classes. skipped: pictures that could not be read. total: pictures in the data; fewer were looked at where images
    and skipped are less. calibration_error: expected, of the best class's score, 15 bins, percent. preprocess: as it was used.
    classes: the worst first where there is a reference. answers: the best class of every picture, where they were asked for."""

    subject: ArtifactInfo
    images: int
    skipped: int
    total: int
    top1: float
    top5: float
    top1_interval: tuple[float, float]
    top5_interval: tuple[float, float]
    calibration_error: float
    preprocess: str
    images_per_s: float
    against: ReferenceComparison | None = None
    classes: tuple[ClassAccuracy, ...] = ()
    answers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Record:
    """One run of tinyvit-bench. date: ISO 8601, UTC. settings: what was asked. warnings: what a reader must know before the figures.
    refusals: what was asked for and not measured, each with its reason. data: of an accuracy record, what was looked at (its name and
    the hash of its names and classes). peak, peers: of a latency record, where they were asked for."""

    kind: Kind
    date: str
    tool: str
    device: DeviceInfo
    settings: dict[str, Scalar]
    warnings: tuple[str, ...]
    refusals: tuple[str, ...] = ()
    latency: tuple[LatencyResult, ...] = ()
    accuracy: tuple[AccuracyResult, ...] = ()
    data: dict[str, Scalar] = field(default_factory=dict)
    peak: PeakRates | None = None
    peers: tuple[BaselineResult, ...] = ()

    @property
    def results(self) -> tuple[LatencyResult, ...] | tuple[AccuracyResult, ...]:
        """One an artifact."""
        return self.latency if self.kind == "latency" else self.accuracy

    def to_json(self) -> str:
        """One line: {"schema": 1, "kind": ..., "results": [{"artifact": ..., ...}]}, each result's subject laid flat into it."""
        plain = asdict(self)
        results = [{**each.pop("subject"), **each} for each in plain.pop(self.kind)]
        plain = {key: value for key, value in plain.items() if key not in ("latency", "accuracy")}
        return json.dumps({"schema": SCHEMA, **plain, "results": results}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, name: str) -> Record:
        """The inverse. Raises RequestError, naming the record `name`, for what is none, or of another schema version."""
        try:
            data = json.loads(text)
            if not isinstance(data, dict) or "schema" not in data:
                raise ValueError("it has no schema version")
            if data["schema"] != SCHEMA:
                remedy = "measure again, or read it with the version of tinyvit-edge that wrote it"
                raise RequestError(
                    f"{name} is a record of schema {data['schema']!r}, this version reads {SCHEMA}",
                    remedy,
                )
            kind, results = data.get("kind"), [_nested(each) for each in data.pop("results")]
            return parse_dataclass(
                cls,
                {
                    **{key: value for key, value in data.items() if key != "schema"},
                    str(kind): results,
                },
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            remedy = "give what tinyvit-bench latency --json or accuracy --json printed"
            raise RequestError(f"{name} is no record of tinyvit-bench ({error})", remedy) from error


_SUBJECT = tuple(ArtifactInfo.__dataclass_fields__)


def _nested(result: dict[str, object]) -> dict[str, object]:
    subject = {key: value for key, value in result.items() if key in _SUBJECT}
    return {
        "subject": subject,
        **{key: value for key, value in result.items() if key not in _SUBJECT},
    }


def read_record(path: Path) -> Record:
    """A record from a file; raises RequestError for what is none, OSError's own where there is no file."""
    if path.stat().st_size > MAX_BYTES:
        raise RequestError(
            f"{path} is larger than {MAX_BYTES >> 20} MiB", "give a record of tinyvit-bench"
        )
    try:
        return Record.from_json(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{path} is no text",
            "give what tinyvit-bench latency --json or accuracy --json printed",
        ) from error
