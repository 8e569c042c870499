"""Limits on the lists in a manifest from an untrusted source, and parsing of its labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tinyvit.labels import MAX_CLASSES
from tinyvit.nesting_limits import exceeds_entry_count
from tinyvit.serialization import parse_dataclass

MAX_GOLDEN_INPUTS = 64
"""Largest number of golden inputs. tinyvit-export writes at most 20, and running each of them takes
the time of one inference."""

MAX_GOLDEN_VALUES = 65_536
"""Largest number of golden values of one input without labels. tinyvit-export writes at most 576
for an embedding, and 2048 for four feature maps."""

MAX_OUTPUTS = 16
"""Largest number of outputs. tinyvit-export writes at most four."""

MAX_ENTRIES = 100_000
"""Largest number of entries in all lists and objects of a manifest together, without the labels and
the golden outputs. tinyvit-export writes a few hundred."""


@dataclass(frozen=True)
class _LabelColumns:
    """Labels as the JSON stores them: two lists take less space than one object per label."""

    names: tuple[str, ...]
    wnids: tuple[str, ...]


def check_counts(data: dict[str, Any]) -> None:
    """Refuse lists that are too long, before an object is created for each of their entries.

    Args:
        data: The JSON of a manifest. A value of a wrong type is not refused here, but later, when
            the JSON is converted to a `Manifest`.

    Raises:
        ValueError: A list is too long. The message is a clause, in which "it" is the manifest.
    """
    class_count = len(_get_list(data, "labels", "names"))
    if class_count > MAX_CLASSES:
        raise ValueError(f"it has more than {MAX_CLASSES} labels")
    rows, patterns = _get_list(data, "golden", "outputs"), _get_list(data, "golden", "patterns")
    if max(len(rows), len(patterns)) > MAX_GOLDEN_INPUTS:
        raise ValueError(f"it has more than {MAX_GOLDEN_INPUTS} golden inputs")
    max_values = class_count or MAX_GOLDEN_VALUES
    if any(isinstance(row, list) and len(row) > max_values for row in rows):
        raise ValueError(
            "it has golden logits of more classes than labels"
            if class_count
            else f"it has more than {MAX_GOLDEN_VALUES} golden values of one input"
        )
    outputs = data.get("outputs")
    if isinstance(outputs, list) and len(outputs) > MAX_OUTPUTS:
        raise ValueError(f"it has more than {MAX_OUTPUTS} outputs")
    rest = {key: value for key, value in data.items() if key not in ("labels", "golden")}
    if exceeds_entry_count(rest, MAX_ENTRIES):
        raise ValueError(f"its lists have more than {MAX_ENTRIES} entries")


def parse_label_columns(columns: object) -> list[dict[str, str]]:
    """Convert the two lists of names and WordNet ids in the JSON into one dict for each label.

    Args:
        columns: The labels in the JSON of a manifest.

    Returns:
        The fields of a `Label` for each class.

    Raises:
        ValueError: The lists have different lengths, or other types. The message is a clause.
    """
    labels = parse_dataclass(_LabelColumns, columns, "labels")
    if len(labels.names) != len(labels.wnids):
        raise ValueError("labels.names and labels.wnids have different lengths")
    return [{"name": name, "wnid": wnid} for name, wnid in zip(labels.names, labels.wnids)]


def _get_list(data: dict[str, Any], object_name: str, list_name: str) -> list[Any]:
    """Return a list in an object of the JSON; an empty list if it is missing or of another type."""
    container = data.get(object_name)
    value = container.get(list_name) if isinstance(container, dict) else None
    return value if isinstance(value, list) else []
