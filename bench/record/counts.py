"""Limits on the numbers and lengths in a record, which may come from an untrusted source.

A report draws every result and every stage, and repeats the names of the device and of the artifact
in every row, so that a file of a few megabytes could keep it busy for hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tinyvit.nesting_limits import exceeds_entry_count

MAX_RESULTS = 256
"""Largest number of results, or of baselines, in a record. The project's own have at most 30."""

MAX_SENSITIVITY_RESULTS = 32
"""Largest number of results in a sensitivity record. A report draws a chart for each result;
tinyvit-export writes one for each target."""

MAX_STAGES = 32
"""Largest number of different stages in all results together. tinyvit-bench measures six. A chart
has a bar for each result and stage."""

MAX_OPERATORS = 512
"""Largest number of operators of a result. tinyvit-bench writes at most 12."""

MAX_LINES = 1000
"""Largest number of warnings, of failures, of settings, of facts about the dataset, or of features
of the processor."""

MAX_TURNS = 100_000
"""Largest number of turns (series of queries) of a result. A comparison draws thousands of samples
from them."""

MAX_CLASSES = 30_000
"""Largest number of classes of an accuracy result; ImageNet-22k has 21,841."""

MAX_UNITS = 4096
"""Largest number of units (quantized layers and attention modules) of a sensitivity result. The
largest TinyViT has 86 of them."""

MAX_ENTRIES = 5_000_000
"""Largest number of entries in all lists and objects of a record together. Most are samples, one
for each query, or predicted classes, one for each image."""

MAX_CHARACTERS = 10_000
"""Largest number of characters of a text. A failure has the longest texts: a path of up to 4,096
characters and an error message of up to 4,002."""

_RECORD_LIMITS = {
    "results": MAX_RESULTS,
    "baselines": MAX_RESULTS,
    "warnings": MAX_LINES,
    "failures": MAX_LINES,
    "settings": MAX_LINES,
    "dataset": MAX_LINES,
}
_RESULT_LIMITS = {
    "stages_ms": MAX_STAGES,
    "operators": MAX_OPERATORS,
    "turns_ms": MAX_TURNS,
    "classes": MAX_CLASSES,
}


def require_possible_counts(data: dict[str, Any]) -> None:
    """Refuse a record with more results, stages or other entries, or longer texts, than any has.

    Args:
        data: The record as plain values, before it is converted to objects.

    Raises:
        ValueError: A list or an object has too many entries, or a text is too long. The message
            names its field, if it is one of the fields with a limit.
    """
    if exceeds_entry_count(data, MAX_ENTRIES):
        raise ValueError(f"it has more than {MAX_ENTRIES} entries")
    if any(len(text) > MAX_CHARACTERS for text in _iterate_texts(data)):
        raise ValueError(f"it has a text of more than {MAX_CHARACTERS} characters")
    _require_lengths(data, _RECORD_LIMITS)
    if data.get("kind") == "sensitivity":
        _require_lengths(data, {"results": MAX_SENSITIVITY_RESULTS})
    _require_lengths(_get_object(data, "device"), {"cpu_features": MAX_LINES})
    results = data.get("results")
    stages: set[str] = set()
    for result in results if isinstance(results, list) else []:
        if isinstance(result, dict):
            _require_lengths(result, _RESULT_LIMITS)
            _require_lengths(_get_object(result, "network"), {"units": MAX_UNITS})
            stages.update(_get_object(result, "stages_ms"))
    if len(stages) > MAX_STAGES:
        raise ValueError(f"its results have {len(stages)} different stages, more than {MAX_STAGES}")


def _require_lengths(data: dict[str, Any], limits: dict[str, int]) -> None:
    """Raise ValueError if a field has more entries than its limit."""
    for name, limit in limits.items():
        value = data.get(name)
        if isinstance(value, (list, dict)) and len(value) > limit:
            raise ValueError(f"{name} has {len(value)} entries, more than {limit}")


def _get_object(data: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the object in a field; an empty one if the field has another type, or is missing."""
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def _iterate_texts(data: dict[str, Any]) -> Iterator[str]:
    """Iterate over all texts in nested lists and objects, including the keys."""
    containers: list[Any] = [data]
    while containers:
        container = containers.pop()
        if isinstance(container, dict):
            yield from container
            container = container.values()
        for value in container:
            if isinstance(value, str):
                yield value
            elif isinstance(value, (dict, list)):
                containers.append(value)
