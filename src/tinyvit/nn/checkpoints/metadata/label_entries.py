"""Reads the names of the classes in one entry of a checkpoint or of its `config.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tinyvit.labels import MAX_CLASSES, labels_from_data
from tinyvit.labels.label_construction import MAX_ALL_CHARACTERS, order_by_index
from tinyvit.labels.label_keys import INDEX_TO_NAME_KEYS, NAME_TO_INDEX_KEYS
from tinyvit.labels.label_tables import INDEX, WNID
from tinyvit.labels.literals import parse_literal
from tinyvit.nn.checkpoints.pickles.records import UnorderedList

_KEY_AND_NAME = re.compile(r"\s*\d{1,9}\s*[:=|;]\s*\S")
"""Matches the beginning of names such as "0: cat", which state the index of the class."""


def read_names(key: str, value: Any) -> list[tuple[str, str]]:
    """Return the names of the classes in an entry.

    Args:
        key: The key of the entry in the form of `normalize_key`.
        value: The value of the entry.

    Returns:
        The name and the WordNet id ("" if unknown) of each class, in the order of the indices if
        the entry states them, otherwise in that of the entry; [] if it does not name classes.

    Raises:
        ValueError: The indices of the classes are not 0, 1, 2, ..., a name is not a text or is
            empty, or the names are a set.
    """
    if isinstance(value, str):
        value = _split_text(value)
    if isinstance(value, Mapping):
        return _read_map(key, value)
    if not isinstance(value, (list, tuple)) or not value or len(value) > MAX_CLASSES:
        return []
    return _read_list(key, value)


def _split_text(text: str) -> object:
    """Return the names in a text: a list or dict in Python's notation, or names with commas.

    Raises:
        ValueError: The text is too long, or it begins like a list or dict and is none.
    """
    if len(text) > MAX_ALL_CHARACTERS:
        raise ValueError(f"it has more than {MAX_ALL_CHARACTERS} characters")
    text = text.strip()
    if text.startswith(("[", "(", "{")):
        return parse_literal(text)
    return [name for name in map(str.strip, re.split(r"[,;\n]", text)) if name]


def _read_list(key: str, value: Sequence[Any]) -> list[tuple[str, str]]:
    """Return the names and WordNet ids of a list; [] if its entries are not names."""
    are_records = all(isinstance(entry, Mapping) and "name" in entry for entry in value)
    if are_records or all(map(_is_row, value)):
        return [(label.name, label.wnid) for label in labels_from_data(value)]
    are_texts = all(isinstance(entry, str) for entry in value)
    # Only numbers that are followed by a separator are indices. In a list such as ["01 cat", "02
    # dog"], they may belong to the names of folders, and the list is in order.
    if are_texts and all(_KEY_AND_NAME.match(entry) for entry in value):
        return [(label.name, label.wnid) for label in labels_from_data(value)]
    # Under the key "labels", whole numbers are usually the classes of the images of a batch. Under
    # other keys, they are names, unless they are only the indices 0, 1, 2, ...
    if not are_texts and (key == "labels" or not _are_names(value)):
        return []
    if isinstance(value, UnorderedList) and len(value) > 1:
        raise ValueError("it is a set, so the order of the classes is unknown")
    return [_read_name(entry) for entry in value]


def _is_row(entry: Any) -> bool:
    """Return whether an entry is a name with its index or its WordNet id, such as (0, "cat")."""
    if not isinstance(entry, (list, tuple)) or len(entry) != 2:
        return False
    return isinstance(entry[0], str) or isinstance(entry[1], str)


def _are_names(values: Sequence[Any]) -> bool:
    """Return whether values are whole numbers that all differ and are not just 0, 1, 2, ..."""
    if not all(type(value) is int for value in values):
        return False
    distinct = set(values)
    return len(distinct) == len(values) and distinct != set(range(len(values)))


def _read_map(key: str, value: Mapping[Any, Any]) -> list[tuple[str, str]]:
    """Return the names and WordNet ids of a map from index to name, or from name to index."""
    has_indices_as_keys = all(map(_is_index, value))
    has_indices_as_values = all(map(_is_index, value.values()))
    if key in INDEX_TO_NAME_KEYS or key in NAME_TO_INDEX_KEYS:
        has_names_as_keys = key in NAME_TO_INDEX_KEYS
        # Some scripts store a map the other way round than its key says, which its indices show.
        if not (has_indices_as_values if has_names_as_keys else has_indices_as_keys):
            has_names_as_keys = not has_names_as_keys
    elif has_indices_as_keys and has_indices_as_values:
        raise ValueError("both its keys and its values are numbers")
    else:
        has_names_as_keys = has_indices_as_values
    if not (has_indices_as_values if has_names_as_keys else has_indices_as_keys):
        return []
    if has_names_as_keys:
        return _order_names([(index, name) for name, index in value.items()])
    return _order_names(list(value.items()))


def _order_names(indexed_names: list[tuple[Any, Any]]) -> list[tuple[str, str]]:
    """Return names and WordNet ids in the order of the indices, from (index, name) tuples."""
    names = order_by_index([(int(index), name) for index, name in indexed_names])
    return list(map(_read_name, names))


def _read_name(value: Any) -> tuple[str, str]:
    """Return a name and its WordNet id; Keras stores both as ["n01440764", "tench"]."""
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2
    if is_pair and all(isinstance(part, str) for part in value) and WNID.fullmatch(value[0]):
        return value[1], value[0]
    if not isinstance(value, (str, int, float)):
        raise ValueError("a name is not a text")
    text = str(value).strip()
    if not text:
        raise ValueError("a name is empty")
    return text, ""


def _is_index(value: Any) -> bool:
    """Return whether a value is a whole number that is at least 0, or a text of such a number."""
    if isinstance(value, str):
        return INDEX.fullmatch(value) is not None
    return type(value) is int and value >= 0
