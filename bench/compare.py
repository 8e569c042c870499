"""Two records of one device, before and after a change -> is anything significantly slower, or less often right?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit.bench.accuracy.intervals import wilson
from tinyvit.bench.record import AccuracyResult, LatencyResult, Record
from tinyvit.errors import RequestError

_RESAMPLES = 2000
_SEED = 0


@dataclass(frozen=True)
class Change:
    """One artifact before and after. value: of latency, the ratio of the median times, after / before; of accuracy, the gain in top-1,
    points. low, high: its 95% interval. is_regression: worse by more than what was allowed, and the interval says that it is no chance."""

    artifact: str
    kind: str
    before: float
    after: float
    value: float
    low: float
    high: float
    is_regression: bool


@dataclass(frozen=True)
class Comparison:
    """unmatched: what only one of the records has."""

    changes: tuple[Change, ...]
    unmatched: tuple[str, ...]


def compare_records(
    before: Record, after: Record, max_regress: float, max_drop: float, across_devices: bool = False
) -> Comparison:
    """Results of the same file name, engine, scenario, batch and threads. max_regress: a share, 0.03 for 3%. max_drop: points.

    Raises RequestError for records of other kinds, data or devices, and where nothing matches.
    """
    if before.kind != after.kind:
        raise RequestError(
            f"one record is of {before.kind}, the other of {after.kind}", "compare two of one kind"
        )
    here, there = ((record.device.cpu, record.device.machine) for record in (before, after))
    if here != there and not across_devices:
        cause = f"the records are of {before.device.name} ({here[0]}) and {after.device.name} ({there[0]})"
        raise RequestError(cause, "compare records of one device, or say --across-devices")
    if before.kind == "accuracy" and before.data.get("sha256") != after.data.get("sha256"):
        raise RequestError(
            "the records are of other pictures or classes", "measure both on the same --data"
        )
    old, new = ({_key(one): one for one in record.results} for record in (before, after))
    shared = [key for key in old if key in new]
    if not shared:
        raise RequestError(
            "the records have no artifact in common",
            "measure the same file names in the same engine, threads and batch",
        )
    changes = tuple(_change(old[key], new[key], max_regress, max_drop) for key in shared)
    return Comparison(
        changes,
        tuple(" ".join(map(str, key)) for key in [*old, *new] if not (key in old and key in new)),
    )


def _key(one: LatencyResult | AccuracyResult) -> tuple[object, ...]:
    where = (Path(one.subject.artifact).name, one.subject.engine.get("engine"))
    return (
        (*where, one.scenario, one.batch, one.subject.engine.get("threads"))
        if isinstance(one, LatencyResult)
        else (*where, one.preprocess)
    )


def _change(
    old: LatencyResult | AccuracyResult,
    new: LatencyResult | AccuracyResult,
    max_regress: float,
    max_drop: float,
) -> Change:
    name = Path(new.subject.artifact).name
    if isinstance(old, LatencyResult) and isinstance(new, LatencyResult):
        value = new.median_ms / old.median_ms
        low, high = _ratio_interval(old, new)
        return Change(
            name,
            "latency",
            old.median_ms,
            new.median_ms,
            value,
            low,
            high,
            low > 1 and value > 1 + max_regress,
        )
    assert isinstance(old, AccuracyResult)
    assert isinstance(new, AccuracyResult)
    gain = new.top1 - old.top1
    low, high = _gain_interval(old, new)
    return Change(
        name, "accuracy", old.top1, new.top1, gain, low, high, high < 0 and gain < -max_drop
    )


def _ratio_interval(old: LatencyResult, new: LatencyResult) -> tuple[float, float]:
    """95%, by a bootstrap of whole turns: runs beside each other resemble each other, and single ones would promise too much."""
    rng = np.random.default_rng(_SEED)
    ratios = _medians(new, rng) / _medians(old, rng)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(low), float(high)


def _medians(one: LatencyResult, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Of _RESAMPLES resamples of the turns' medians."""
    turns = np.array([float(np.median(turn)) for turn in one.turns_ms if turn] or [one.median_ms])
    chosen: npt.NDArray[np.float64] = np.median(
        turns[rng.integers(0, len(turns), (_RESAMPLES, len(turns)))], axis=1
    )
    return chosen


def _gain_interval(old: AccuracyResult, new: AccuracyResult) -> tuple[float, float]:
    """95% of a difference of two shares, points (Newcombe 1998, method 10); of the same pictures it is wider than need be."""
    (low_old, high_old), (low_new, high_new) = (
        wilson(round(one.top1 * one.images / 100), one.images) for one in (old, new)
    )
    gain = new.top1 - old.top1
    return gain - math.hypot(new.top1 - low_new, high_old - old.top1), gain + math.hypot(
        high_new - new.top1, old.top1 - low_old
    )
