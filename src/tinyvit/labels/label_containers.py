"""Finds the lists and dicts of labels in a dict, by the keys under which labels are usual."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tinyvit.labels.label_keys import COUNT_KEYS, LABEL_KEYS, normalize_key

_KEY_RANKS = {key: rank for rank, key in enumerate(LABEL_KEYS)}

_INVERSES = {"id2label": "label2id", "idx_to_class": "class_to_idx"}
"""For a key of a map from indices to names, the key of the inverse map that is usual beside it."""

_WRAPPER_KEYS = frozenset(("value", "desc"))
"""Keys of the dict in which Weights & Biases stores each setting."""

_MAX_DEPTH = 4
"""Depth of nested dicts in which labels are searched."""

_MAX_ENTRIES = 1000
"""Labels are not searched inside a dict with more entries."""

_MAX_COUNT_DIGITS = 10
"""Numbers of classes with this many digits, or more, are ignored."""


@dataclass(frozen=True)
class LabelContainer:
    """A list or a dict of labels under a usual key.

    Attributes:
        path: The keys that lead to it, joined with ".", such as "model.names".
        key: The last of these keys.
        value: The list or the dict.
        counts: Numbers of classes in the dict that has the key, by their keys, such as "nc".
        inverses: If the container is a map from index to name, the inverse maps from name to index
            that are beside it, by their keys, such as "label2id". They may be incomplete.
    """

    path: str
    key: str
    value: Any
    counts: Mapping[str, int]
    inverses: Mapping[str, Mapping[Any, Any]]


def find_containers(data: Mapping[Any, Any]) -> list[LabelContainer]:
    """Return the lists and dicts under usual keys of labels.

    The dicts inside a dict are searched only if the dict itself has no such key.

    Args:
        data: The dict to search.

    Returns:
        The containers; from each dict, first the maps and then the lists. The inverse of a map,
        such as `label2id` of `id2label`, has no container of its own; it is part of the map's.
    """
    return _find_containers(data, depth=0)


def _find_containers(data: Mapping[Any, Any], depth: int) -> list[LabelContainer]:
    """Return the containers in a dict at this depth of nesting."""
    values = {
        key: _unwrap(value)
        for key, value in data.items()
        if isinstance(key, str) and normalize_key(key) in _KEY_RANKS
    }
    values = {
        key: value for key, value in values.items() if isinstance(value, (Mapping, list, tuple))
    }
    inverse_keys = {_INVERSES.get(normalize_key(key), "") for key in values}
    usual_keys = [key for key in values if normalize_key(key) not in inverse_keys]
    if usual_keys:
        counts = _find_counts(data)
        usual_keys.sort(key=_rank_key)
        return [
            LabelContainer(key, key, values[key], counts, _find_inverses(key, values))
            for key in usual_keys
        ]
    if depth >= _MAX_DEPTH or len(data) > _MAX_ENTRIES:
        return []
    return [
        replace(container, path=f"{name}.{container.path}")
        for name, value in data.items()
        if isinstance(value, Mapping)
        for container in _find_containers(value, depth + 1)
    ]


def _find_counts(data: Mapping[Any, Any]) -> dict[str, int]:
    """Return the numbers of classes that a dict states, by their keys, such as "nc".

    Values that are not whole numbers or texts of such numbers are ignored.
    """
    counts = {}
    for key, value in data.items():
        if isinstance(key, str) and normalize_key(key) in COUNT_KEYS:
            count = _unwrap(value)
            text = str(count).strip() if type(count) in (int, str) else ""
            if text.isdecimal() and len(text) < _MAX_COUNT_DIGITS:
                counts[key] = int(text)
    return counts


def _find_inverses(key: str, values: Mapping[str, Any]) -> dict[str, Mapping[Any, Any]]:
    """Return the inverse maps of the map under a key, by their keys."""
    inverse_key = _INVERSES.get(normalize_key(key))
    return {
        other_key: value
        for other_key, value in values.items()
        if normalize_key(other_key) == inverse_key and isinstance(value, Mapping)
    }


def _rank_key(key: str) -> int:
    """Return the rank of a usual key, which is smaller for maps than for lists."""
    return _KEY_RANKS[normalize_key(key)]


def _unwrap(value: object) -> object:
    """Return a setting without the dict in which Weights & Biases stores it."""
    is_wrapped = isinstance(value, Mapping) and "value" in value and value.keys() <= _WRAPPER_KEYS
    return value["value"] if isinstance(value, Mapping) and is_wrapped else value
