"""Creates the rows of a report: each joins the latency and the accuracy of one artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyvit.bench.record import AccuracyResult, ArtifactInfo, DeviceInfo, LatencyResult, Record
from tinyvit.runtimes.base import RuntimeInfo

_Result = LatencyResult | AccuracyResult


@dataclass(frozen=True)
class Row:
    """The results of one artifact in one engine on one device.

    Attributes:
        device: The device of the latency; without a latency, the device of the accuracy.
        artifact: The artifact and its engine.
        latency: The latency; None if it was not measured.
        accuracy: The accuracy, from any device; None if it was not measured.
        label: File name of the artifact; with the engine, threads, batch or scenario if rows could
            not be told apart otherwise.
    """

    device: DeviceInfo
    artifact: ArtifactInfo
    latency: LatencyResult | None
    accuracy: AccuracyResult | None
    label: str

    @property
    def engine(self) -> str:
        """Name and version of the engine."""
        return describe_engine(self.artifact.engine)

    @property
    def file_name(self) -> str:
        """Name of the artifact's file."""
        return Path(self.artifact.path).name


def make_rows(records: Sequence[Record]) -> list[Row]:
    """Join the latencies and accuracies of records.

    Args:
        records: Latency and accuracy records of any devices.

    Returns:
        One row per latency result, with the first accuracy result of the same artifact (by hash)
        and engine; then one row per accuracy result that no latency result matches.
    """
    accuracies: dict[tuple[str, str], AccuracyResult] = {}
    for record in records:
        for accuracy in record.accuracy:
            accuracies.setdefault(_join_key(accuracy.artifact), accuracy)
    latencies = [(record.device, result) for record in records for result in record.latency]
    used_keys = {_join_key(result.artifact) for _, result in latencies}
    remaining = [
        (record.device, result)
        for record in records
        for result in record.accuracy
        if _join_key(result.artifact) not in used_keys
    ]
    labels = _make_labels([*latencies, *remaining])
    rows = [
        Row(device, result.artifact, result, accuracies.get(_join_key(result.artifact)), label)
        for (device, result), label in zip(latencies, labels)
    ]
    return rows + [
        Row(device, result.artifact, None, result, label)
        for (device, result), label in zip(remaining, labels[len(latencies) :])
    ]


def find_pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the Pareto-optimal points: no other has both values better.

    Args:
        points: Pairs of a latency (lower is better) and an accuracy (higher is better).

    Returns:
        The indices in ascending order of latency.
    """
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


def device_key(device: DeviceInfo) -> tuple[str, str, str]:
    """Return name, CPU and architecture, which identify a device across records."""
    return device.name, device.cpu, device.architecture


def list_devices(records: Sequence[Record]) -> list[DeviceInfo]:
    """Return the distinct devices, in the order of the records."""
    devices: dict[tuple[str, str, str], DeviceInfo] = {}
    for record in records:
        devices.setdefault(device_key(record.device), record.device)
    return list(devices.values())


def describe_engine(engine: RuntimeInfo) -> str:
    """Return the name and the version of an engine; a build suffix after "-" is removed."""
    return f"{engine.engine} {engine.version.partition('-')[0]}".strip()


def describe_threads(engine: RuntimeInfo) -> str:
    """Return the number of threads, or "default" if it was left to the engine."""
    return "default" if engine.threads is None else str(engine.threads)


def _join_key(artifact: ArtifactInfo) -> tuple[str, str]:
    return artifact.sha256, artifact.engine.engine


def _make_labels(results: Sequence[tuple[DeviceInfo, _Result]]) -> list[str]:
    """Return a label for each result: its file name.

    If a file name occurs twice on one device, every label also includes those of engine, threads,
    batch and scenario that are not the same for all results.
    """
    parts = [_label_parts(result) for _, result in results]
    names = {(device_key(device), part[0]) for (device, _), part in zip(results, parts)}
    if len(names) == len(parts):
        return [part[0] for part in parts]
    differing = [i for i in range(1, 5) if len({part[i] for part in parts}) > 1]
    return [", ".join([part[0], *(part[i] for i in differing if part[i])]) for part in parts]


def _label_parts(result: _Result) -> tuple[str, str, str, str, str]:
    engine = result.artifact.engine
    name, threads = Path(result.artifact.path).name, f"threads {describe_threads(engine)}"
    if isinstance(result, LatencyResult):
        return name, engine.engine, threads, f"batch {result.batch}", result.scenario
    return name, engine.engine, threads, "", ""
