"""Records -> the rows of a report: what was timed and what was judged, joined by file and engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyvit.bench.record import AccuracyResult, ArtifactInfo, DeviceInfo, LatencyResult, Record


@dataclass(frozen=True)
class Row:
    """One file in one engine on one device, as it was timed, or judged, or both. label: short, and its own within a device."""

    device: DeviceInfo
    subject: ArtifactInfo
    latency: LatencyResult | None
    accuracy: AccuracyResult | None
    label: str

    @property
    def engine(self) -> str:
        """Name and version of the engine."""
        return f"{self.subject.engine.get('engine', '')} {str(self.subject.engine.get('version', '')).partition('-')[0]}".strip()


def make_rows(records: Sequence[Record]) -> list[Row]:
    """Every latency result, with the accuracy of the same bytes in the same engine where one of the records has it, on any device; then
    what was only judged."""
    judged: dict[tuple[str, str], AccuracyResult] = {}
    for record in records:
        for one in record.accuracy:
            judged.setdefault(_key(one.subject), one)
    timed = [(record.device, one) for record in records for one in record.latency]
    used = {_key(one.subject) for _, one in timed}
    left = [
        (record.device, one)
        for record in records
        for one in record.accuracy
        if _key(one.subject) not in used
    ]
    names = _labels([*timed, *left])
    made = [
        Row(device, one.subject, one, judged.get(_key(one.subject)), label)
        for (device, one), label in zip(timed, names)
    ]
    return made + [
        Row(device, one.subject, None, one, label)
        for (device, one), label in zip(left, names[len(timed) :])
    ]


def _key(subject: ArtifactInfo) -> tuple[str, str]:
    return subject.sha256, str(subject.engine.get("engine"))


def _labels(results: Sequence[tuple[DeviceInfo, LatencyResult | AccuracyResult]]) -> list[str]:
    """A file's name, and where one comes twice on a device, what they differ in of engine, threads, batch and scenario."""
    parts = [_parts(one) for _, one in results]
    is_enough = len({(which(device), part[0]) for (device, _), part in zip(results, parts)}) == len(
        parts
    )
    differing = (
        [] if is_enough else [i for i in range(1, 5) if len({part[i] for part in parts}) > 1]
    )
    return [" ".join([part[0], *(part[i] for i in differing if part[i])]) for part in parts]


def _parts(one: LatencyResult | AccuracyResult) -> tuple[str, str, str, str, str]:
    engine, threads = (
        str(one.subject.engine.get("engine", "")),
        f"t{one.subject.engine.get('threads', '')}",
    )
    name = Path(one.subject.artifact).name
    if isinstance(one, LatencyResult):
        return name, engine, threads, f"b{one.batch}", one.scenario
    return name, engine, threads, "", ""


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Of (time, share right), the indices that no other is both faster than and as right as, the fastest first."""
    found: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not found or points[i][1] > points[found[-1]][1]:
            found.append(i)
    return found


def which(device: DeviceInfo) -> tuple[str, str, str]:
    """What makes it the same device: not its clock, which every record has anew."""
    return device.name, device.cpu, device.machine


def devices(records: Sequence[Record]) -> list[DeviceInfo]:
    """Each once, in the order of the records."""
    return list({which(record.device): record.device for record in reversed(records)}.values())[
        ::-1
    ]
