"""Comparison of two records of one device, such as before and after a change, for regressions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit.bench.record import AccuracyResult, Kind, LatencyResult, Record
from tinyvit.errors import RequestError
from tinyvit.metrics import gain_interval

_RESAMPLES = 2000
_SEED = 0


@dataclass(frozen=True)
class Change:
    """The results of one artifact before and after.

    Attributes:
        artifact: File name of the artifact.
        kind: What was measured.
        before: Median latency in milliseconds, or top-1 accuracy in percent, in the first record.
        after: The same in the second record.
        change: `after / before` of latencies, `after - before` of accuracies.
        low: Lower end of the 95% interval of `change`.
        high: Upper end of the 95% interval of `change`.
        is_regression: Whether the artifact became worse by more than is allowed, and the interval
            excludes that it became no worse.
    """

    artifact: str
    kind: Kind
    before: float
    after: float
    change: float
    low: float
    high: float
    is_regression: bool


@dataclass(frozen=True)
class RecordComparison:
    """The comparison of two records.

    Attributes:
        changes: One entry per result that both records have.
        unmatched: Descriptions of the results that only one of them has.
    """

    changes: tuple[Change, ...]
    unmatched: tuple[str, ...]


def compare_records(
    before: Record, after: Record, max_regress: float, max_drop: float, across_devices: bool = False
) -> RecordComparison:
    """Compare the results that two records have in common.

    Results match if the file name and the engine are the same, and also the scenario, the batch and
    the threads of latencies, or the preprocessing of accuracies.

    Args:
        before: The record to compare with.
        after: The record to judge.
        max_regress: Increase of the latency that is allowed, as a share: 0.03 allows 3%.
        max_drop: Loss of top-1 accuracy that is allowed, in percentage points.
        across_devices: Whether the records may come from different devices.

    Raises:
        RequestError: The records differ in kind, device or dataset, or no result matches.
    """
    _require_comparable(before, after, across_devices)
    old, new = ({_match_key(result): result for result in r.results} for r in (before, after))
    shared = [key for key in old if key in new]
    if not shared:
        raise RequestError(
            "the records have no artifact in common",
            "measure the same file names with the same engine, threads and batch",
        )
    changes = []
    for key in shared:
        first, second = old[key], new[key]
        if isinstance(first, LatencyResult) and isinstance(second, LatencyResult):
            changes.append(_compare_latency(first, second, max_regress))
        elif isinstance(first, AccuracyResult) and isinstance(second, AccuracyResult):
            changes.append(_compare_accuracy(first, second, max_drop))
    unmatched = [key for key in [*old, *new] if not (key in old and key in new)]
    return RecordComparison(tuple(changes), tuple(" ".join(map(str, key)) for key in unmatched))


def _require_comparable(before: Record, after: Record, across_devices: bool) -> None:
    if before.kind != after.kind:
        raise RequestError(
            f"the records are of different kinds, {before.kind} and {after.kind}",
            "compare two records of the same kind",
        )
    first, second = before.device, after.device
    is_same_device = (first.cpu, first.machine) == (second.cpu, second.machine)
    if not is_same_device and not across_devices:
        raise RequestError(
            f"the records come from different devices, {first.name} ({first.cpu}) and"
            f" {second.name} ({second.cpu})",
            "compare records of one device, or add --across-devices",
        )
    if before.kind == "accuracy" and before.dataset.get("sha256") != after.dataset.get("sha256"):
        raise RequestError(
            "the records were measured on different images or classes",
            "measure both with the same --data",
        )


def _match_key(result: LatencyResult | AccuracyResult) -> tuple[object, ...]:
    engine = result.artifact.engine
    name = Path(result.artifact.path).name
    if isinstance(result, LatencyResult):
        return name, engine.engine, result.scenario, result.batch, engine.threads
    return name, engine.engine, result.preprocess


def _compare_latency(old: LatencyResult, new: LatencyResult, max_regress: float) -> Change:
    ratio = new.median_ms / old.median_ms
    low, high = _ratio_interval(old, new)
    return Change(
        artifact=Path(new.artifact.path).name,
        kind="latency",
        before=old.median_ms,
        after=new.median_ms,
        change=ratio,
        low=low,
        high=high,
        is_regression=low > 1 and ratio > 1 + max_regress,
    )


def _compare_accuracy(old: AccuracyResult, new: AccuracyResult, max_drop: float) -> Change:
    gain = new.top1 - old.top1
    low, high = gain_interval(new.top1, new.images, old.top1, old.images)
    return Change(
        artifact=Path(new.artifact.path).name,
        kind="accuracy",
        before=old.top1,
        after=new.top1,
        change=gain,
        low=low,
        high=high,
        is_regression=high < 0 and gain < -max_drop,
    )


def _ratio_interval(old: LatencyResult, new: LatencyResult) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the ratio of two medians.

    Whole turns are resampled, because samples of one turn resemble each other: resampling single
    samples would give an interval that is too narrow.
    """
    rng = np.random.default_rng(_SEED)
    ratios = _resample_medians(new, rng) / _resample_medians(old, rng)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(low), float(high)


def _resample_medians(result: LatencyResult, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return the median of the turns' medians in each resample, float64 (_RESAMPLES,)."""
    medians = [float(np.median(turn)) for turn in result.turns_ms if turn] or [result.median_ms]
    turns = np.array(medians)
    indices = rng.integers(0, len(turns), (_RESAMPLES, len(turns)))
    resampled: npt.NDArray[np.float64] = np.median(turns[indices], axis=1)
    return resampled
