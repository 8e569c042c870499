"""Limits on the number of results in a record, which may come from an untrusted source.

A report draws every result and every stage, so that a file of a few megabytes could keep it busy
for hours.
"""

from __future__ import annotations

from typing import Any

from tinyvit.nesting_limits import exceeds_entry_count

MAX_RESULTS = 256
"""Largest number of results, or of baselines, in a record. The project's own have at most 30."""

MAX_STAGES = 32
"""Largest number of stages of a result. tinyvit-bench measures six."""

MAX_OPERATORS = 512
"""Largest number of operators of a result. tinyvit-bench writes at most 12."""

MAX_LINES = 1000
"""Largest number of warnings, of failures, of settings, or of facts about the dataset."""

MAX_CLASSES = 30_000
"""Largest number of classes of an accuracy result; ImageNet-22k has 21,841."""

MAX_ENTRIES = 5_000_000
"""Largest number of entries in all lists and objects of a record together. Most are samples, one
for each query, or predicted classes, one for each image."""

_RECORD_LIMITS = {
    "results": MAX_RESULTS,
    "baselines": MAX_RESULTS,
    "warnings": MAX_LINES,
    "failures": MAX_LINES,
    "settings": MAX_LINES,
    "dataset": MAX_LINES,
}
_RESULT_LIMITS = {"stages_ms": MAX_STAGES, "operators": MAX_OPERATORS, "classes": MAX_CLASSES}


def require_possible_counts(data: dict[str, Any]) -> None:
    """Refuse a record with more results, stages or other entries than any benchmark has.

    Args:
        data: The record as plain values, before it is converted to objects.

    Raises:
        ValueError: A list or an object has too many entries. The message names its field.
    """
    if exceeds_entry_count(data, MAX_ENTRIES):
        raise ValueError(f"it has more than {MAX_ENTRIES} entries")
    _require_lengths(data, _RECORD_LIMITS)
    results = data.get("results")
    for result in results if isinstance(results, list) else []:
        if isinstance(result, dict):
            _require_lengths(result, _RESULT_LIMITS)


def _require_lengths(data: dict[str, Any], limits: dict[str, int]) -> None:
    """Raise ValueError if a field has more entries than its limit."""
    for name, limit in limits.items():
        value = data.get(name)
        if isinstance(value, (list, dict)) and len(value) > limit:
            raise ValueError(f"{name} has {len(value)} entries, more than {limit}")
