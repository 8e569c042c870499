"""Creates the rows of a report, each of which joins one artifact's latency and accuracy.

An artifact is an exported model file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyvit.bench.record import (
    AccuracyResult,
    ArtifactInfo,
    DeviceInfo,
    LatencyResult,
    PeakRates,
    Record,
)
from tinyvit.runtimes.base import RuntimeInfo

_Result = LatencyResult | AccuracyResult


@dataclass(frozen=True)
class Row:
    """The results of one artifact in one engine on one device.

    Attributes:
        device: The device on which the latency was measured; without a latency, the device on which
            the accuracy was measured.
        artifact: The artifact and its engine.
        latency: The latency; None if it was not measured.
        accuracy: The accuracy, measured on any device; None if it was not measured.
        label: File name of the artifact. If a file name occurs twice on one device, the label also
            states the engine, threads, batch and scenario, except those that are the same in all
            rows that have them. Two files of the same name in different folders can have equal
            labels.
        peak_rates: Highest rates of the device, which were measured together with the latency; None
            if they were not measured.
    """

    device: DeviceInfo
    artifact: ArtifactInfo
    latency: LatencyResult | None
    accuracy: AccuracyResult | None
    label: str
    peak_rates: PeakRates | None = None

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
        and engine; then one row per accuracy result for which there is no latency result.
    """
    latencies = [(record.device, result) for record in records for result in record.latency]
    accuracies = [(record.device, result) for record in records for result in record.accuracy]
    first_accuracies: dict[tuple[str, str], AccuracyResult] = {}
    for _, accuracy in accuracies:
        first_accuracies.setdefault(_make_join_key(accuracy.artifact), accuracy)
    latency_keys = {_make_join_key(latency.artifact) for _, latency in latencies}
    accuracies_without_latency = [
        (device, accuracy)
        for device, accuracy in accuracies
        if _make_join_key(accuracy.artifact) not in latency_keys
    ]
    labels = iter(_make_labels([*latencies, *accuracies_without_latency]))
    rows = [
        Row(
            device=record.device,
            artifact=latency.artifact,
            latency=latency,
            accuracy=first_accuracies.get(_make_join_key(latency.artifact)),
            label=next(labels),
            peak_rates=record.peak_rates,
        )
        for record in records
        for latency in record.latency
    ]
    rows += [
        Row(
            device=device,
            artifact=accuracy.artifact,
            latency=None,
            accuracy=accuracy,
            label=next(labels),
        )
        for device, accuracy in accuracies_without_latency
    ]
    return rows


def find_pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the Pareto-optimal points.

    A point is Pareto-optimal if no other point is at least as good in both values and better in
    one.

    Args:
        points: Pairs of a latency (lower is better) and an accuracy (higher is better).

    Returns:
        The indices in ascending order of latency. If points are equal, only one is included.
    """
    front: list[int] = []
    best_accuracy = -math.inf
    # From fast to slow, a point is optimal if it is more accurate than all faster points.
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        accuracy = points[i][1]
        if accuracy > best_accuracy:
            front.append(i)
            best_accuracy = accuracy
    return front


def device_key(device: DeviceInfo) -> tuple[str, str, str]:
    """Return name, processor and architecture, which identify a device across records."""
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


def _make_join_key(artifact: ArtifactInfo) -> tuple[str, str]:
    """Return hash and engine, which a latency and an accuracy must share to be in one row."""
    return artifact.sha256, artifact.engine.engine


def _make_labels(results: Sequence[tuple[DeviceInfo, _Result]]) -> list[str]:
    """Return a label for each result: its file name.

    If a file name occurs twice on one device, each label also includes those of engine, threads,
    batch and scenario that are not the same for all results that have one. Accuracy results have no
    batch and no scenario.
    """
    file_names = [Path(result.artifact.path).name for _, result in results]
    names_on_devices = {
        (device_key(device), name) for (device, _), name in zip(results, file_names)
    }
    if len(names_on_devices) == len(results):
        return file_names
    details = [_list_label_details(result) for _, result in results]
    is_same_for_all = [len({*values} - {""}) == 1 for values in zip(*details)]
    labels = []
    for name, values in zip(file_names, details):
        shown_values = [
            value for value, is_same in zip(values, is_same_for_all) if value and not is_same
        ]
        labels.append(", ".join([name, *shown_values]))
    return labels


def _list_label_details(result: _Result) -> tuple[str, str, str, str]:
    """Return engine, threads, batch and scenario; "" for the last two of an accuracy result."""
    engine = result.artifact.engine
    threads = f"threads {describe_threads(engine)}"
    if isinstance(result, LatencyResult):
        return engine.engine, threads, f"batch {result.batch}", result.scenario
    return engine.engine, threads, "", ""
