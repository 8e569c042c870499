"""Compares a benchmark record with an earlier one, to find regressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tinyvit.bench.artifact_matching import NO_NAMES, describe_pair, match_results
from tinyvit.bench.latency.interference import select_disturbances
from tinyvit.bench.latency.percentiles import MIN_TURNS
from tinyvit.bench.record import AccuracyResult, LatencyResult, Record, RecordKind
from tinyvit.errors import RequestError
from tinyvit.metrics import gain_interval
from tinyvit.text.plurals import format_count

_RESAMPLE_COUNT = 2000
"""Number of bootstrap resamples for an interval."""
_MAX_DRAWN_TURNS = 2**22
"""Number of turns that are drawn at once, which limits the memory."""
_SEED = 0
"""Seed of the resampling, so that the same records always give the same interval."""


@dataclass(frozen=True)
class Change:
    """The change of one artifact's result between two records.

    Attributes:
        artifact: File name of the artifact; its path if a record has several files of this name;
            both names as "before -> after" if they differ.
        kind: Whether latency or accuracy was measured.
        before: Median latency in milliseconds, or top-1 accuracy in percent, in the earlier record.
        after: The same number in the later record.
        change: `after / before` for latencies, `after - before` for accuracies.
        low: Lower end of the 95% confidence interval of `change`; None for latencies with fewer
            turns than `percentiles.MIN_TURNS`, and for those from Android, which have no samples.
        high: Upper end of the 95% confidence interval of `change`; None if `low` is.
        is_regression: Whether the later result is worse by more than the allowed amount, at both
            ends of the interval, and the measurements were not disturbed. For latencies from
            Android, whether the change itself is worse by more than the allowed amount.
        inconclusive_reason: Why the records show neither a regression nor its absence; "" if they
            show one of these.
    """

    artifact: str
    kind: RecordKind
    before: float
    after: float
    change: float
    low: float | None
    high: float | None
    is_regression: bool
    inconclusive_reason: str = ""


@dataclass(frozen=True)
class RecordComparison:
    """The comparison of two records.

    Attributes:
        changes: One entry per result that is in both records.
        unmatched: Name (or path, as in `Change.artifact`), engine and settings of each result that
            is in only one of the records.
        kind: Whether latency or accuracy was measured.
        limit: Allowed increase of the latency as a fraction, or allowed loss of top-1 accuracy in
            percentage points.
        warnings: The warnings of both records about disturbances of the measurement, each with the
            name of its record.
    """

    changes: tuple[Change, ...]
    unmatched: tuple[str, ...]
    kind: RecordKind
    limit: float
    warnings: tuple[str, ...] = ()


def compare_records(
    before: Record,
    after: Record,
    max_regress: float,
    max_drop: float,
    across_devices: bool = False,
    names: Mapping[str, str] = NO_NAMES,
) -> RecordComparison:
    """Compare the results that two records have in common.

    Two results match if they have the same file name and engine. Latencies must also have the same
    scenario, batch and threads, and accuracies the same preprocessing. If a record has several
    results with all of this in common, their paths must be the same instead of their file names. If
    each record is of one file, the names of these two files may differ.

    Args:
        before: The earlier record.
        after: The later record, which is checked for regressions.
        max_regress: Allowed increase of the latency, as a fraction; 0.03 allows 3%.
        max_drop: Allowed loss of top-1 accuracy, in percentage points.
        across_devices: Whether the records may be from different devices.
        names: File name in the later record -> file name in the earlier record, for artifacts
            whose names differ.

    Returns:
        The change of each result that is in both records, and the names of the other results.

    Raises:
        RequestError: The records are of sensitivity; they differ in kind, dataset or, unless
            `across_devices`, device; no results match; or a record has several results for one
            artifact and the same settings.
    """
    _require_comparable(before, after, across_devices)
    results_before, results_after = match_results(before, after, names)
    disturbances = {
        "the earlier record": select_disturbances(before.warnings),
        "the later record": select_disturbances(after.warnings),
    }
    disturbed_names = [name for name, warnings in disturbances.items() if warnings]
    shared_keys = [key for key in results_before if key in results_after]
    if not shared_keys:
        raise RequestError(
            "the records have no artifact in common",
            "measure files of the same names, or give --match BEFORE=AFTER, with the same engine,"
            " threads and batch; if several files have one name, their paths must be the same too",
        )
    changes = []
    for key in shared_keys:
        old, new = results_before[key], results_after[key]
        if isinstance(old, LatencyResult) and isinstance(new, LatencyResult):
            change = _compare_latency(describe_pair(key, old, new), old, new, max_regress)
            changes.append(_consider_disturbances(change, disturbed_names))
        elif isinstance(old, AccuracyResult) and isinstance(new, AccuracyResult):
            pair = describe_pair(key, old, new)
            changes.append(_compare_accuracy(pair, old, new, max_drop))
    unmatched_keys = [key for key in [*results_before, *results_after] if key not in shared_keys]
    return RecordComparison(
        changes=tuple(changes),
        unmatched=tuple(" ".join(key) for key in unmatched_keys),
        kind=before.kind,
        limit=max_regress if before.kind == "latency" else max_drop,
        warnings=tuple(
            f"{name}: {warning}" for name, warnings in disturbances.items() for warning in warnings
        ),
    )


def _consider_disturbances(change: Change, disturbed_names: Sequence[str]) -> Change:
    """Make a change inconclusive if one of the measurements was disturbed."""
    if not disturbed_names:
        return change
    verb = "was" if len(disturbed_names) == 1 else "were"
    reason = f"{' and '.join(disturbed_names)} {verb} disturbed"
    return replace(change, is_regression=False, inconclusive_reason=reason)


def _require_comparable(before: Record, after: Record, across_devices: bool) -> None:
    """Raise RequestError if the records differ, or are of a kind that cannot be compared."""
    if before.kind != after.kind:
        raise RequestError(
            f"the records are of different kinds, {before.kind} and {after.kind}",
            "compare two records of the same kind",
        )
    if before.kind == "sensitivity":
        raise RequestError(
            "sensitivity records cannot be compared",
            "give two latency records or two accuracy records; tinyvit-bench report shows"
            " sensitivity records side by side",
        )
    old_device, new_device = before.device, after.device
    is_same_device = (
        old_device.cpu == new_device.cpu and old_device.architecture == new_device.architecture
    )
    if not is_same_device and not across_devices:
        raise RequestError(
            f"the records come from different devices, {old_device.name} ({old_device.cpu}) and"
            f" {new_device.name} ({new_device.cpu})",
            "compare records of one device, or add --across-devices",
        )
    if before.kind == "accuracy" and _get_dataset_hash(before) != _get_dataset_hash(after):
        raise RequestError(
            "the records were measured on different images, or on images with different classes",
            "measure both with the same --data",
        )


def _get_dataset_hash(record: Record) -> object:
    return record.dataset.get("names_and_classes_sha256")


def _compare_latency(
    name: str, old: LatencyResult, new: LatencyResult, max_regress: float
) -> Change:
    ratio, limit = new.median_ms / old.median_ms, 1 + max_regress
    low = high = None
    is_regression, reason = ratio > limit, ""
    turn_count = min(sum(map(bool, result.turns_ms)) for result in (old, new))
    if turn_count >= MIN_TURNS:
        low, high = _compute_ratio_interval(old, new)
        is_regression = low > limit
        reason = _describe_overlap(low, high, limit)
    elif turn_count > 0:
        is_regression = False
        reason = f"an interval needs {MIN_TURNS} turns of queries, and a record has {turn_count}"
    return Change(
        artifact=name,
        kind="latency",
        before=old.median_ms,
        after=new.median_ms,
        change=ratio,
        low=low,
        high=high,
        is_regression=is_regression,
        inconclusive_reason=reason,
    )


def _compare_accuracy(
    name: str, old: AccuracyResult, new: AccuracyResult, max_drop: float
) -> Change:
    gain = new.top1 - old.top1
    low, high = gain_interval(
        top1=new.top1,
        image_count=new.classified_count,
        reference_top1=old.top1,
        reference_image_count=old.classified_count,
    )
    if old == new:  # One measurement is compared with itself.
        low = high = 0.0
    return Change(
        artifact=name,
        kind="accuracy",
        before=old.top1,
        after=new.top1,
        change=gain,
        low=low,
        high=high,
        is_regression=high < -max_drop,
        inconclusive_reason=_describe_few_images(
            _describe_overlap(low, high, -max_drop), new.classified_count
        ),
    )


def _describe_overlap(low: float, high: float, limit: float) -> str:
    """Return the reason why an interval around the limit is inconclusive; "" for any other."""
    return "the interval contains the limit" if low < limit < high else ""


def _describe_few_images(reason: str, image_count: int) -> str:
    """Add to the reason of an inconclusive accuracy that more images would make it conclusive."""
    return f"{reason}, because {format_count(image_count, 'image')} are too few" if reason else ""


def _compute_ratio_interval(old: LatencyResult, new: LatencyResult) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the ratio `new / old` of two median latencies.

    Turns (short series of consecutive queries) are resampled, not single samples: the samples of a
    turn are correlated, and resampling them one by one would give an interval that is too narrow.
    """
    rng = np.random.default_rng(_SEED)
    ratios = _resample_medians(new, rng) / _resample_medians(old, rng)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(low), float(high)


def _resample_medians(result: LatencyResult, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return the median latency of each bootstrap resample of a result.

    A resample consists of turns that are drawn at random with replacement, as many as the result
    has. Its median latency is estimated by the median of the medians of its turns.

    Returns:
        Median latencies in milliseconds, float64 (_RESAMPLE_COUNT,).
    """
    turn_medians_ms = np.array([float(np.median(turn)) for turn in result.turns_ms if turn])
    count = len(turn_medians_ms)
    block_size = max(_MAX_DRAWN_TURNS // count, 1)
    resampled_ms = []
    for start in range(0, _RESAMPLE_COUNT, block_size):
        # The numbers are the same as those of one call for all resamples.
        shape = (min(block_size, _RESAMPLE_COUNT - start), count)
        indices = rng.integers(0, count, shape)
        resampled_ms.append(np.median(turn_medians_ms[indices], axis=1))
    return np.concatenate(resampled_ms)
