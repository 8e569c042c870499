"""Labels from lists and dicts: from JSON, from a Python literal, from a checkpoint, from a caller.

Accepted are a list of names, a dict from indices to names or from names to indices, Keras'
{"0": ["n01440764", "tench"], ...}, COCO's [{"id": 0, "name": "cat"}, ...], and dicts that contain
one of these under a usual key such as "id2label", "classes" or "class_to_idx".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard

from tinyvit.labels.imagenet import Label
from tinyvit.labels.label_tables import (
    INDEX,
    INDEX_TITLES,
    NAME_TITLES,
    WNID,
    make_labels,
    order_by_index,
    parse_rows,
)

LabelNames: TypeAlias = "Sequence[str | Label] | Mapping[int, str] | Mapping[str, int]"
"""Names of all classes in the order of the logits, or a map between indices and names."""

CONTAINER_KEYS = (
    "id2label",
    "idx_to_class",
    "idx2label",
    "idx2class",
    "index_to_class",
    "index_to_name",
    "class_to_idx",
    "class_to_index",
    "class2idx",
    "label2id",
    "class_names",
    "label_names",
    "classes",
    "labels",
    "names",
    "categories",
)
"""Keys under which labels are usual. The values of several of them must agree."""

_INVERSES = {"id2label": ("label2id",), "idx_to_class": ("class_to_idx",)}
"""For a key, the keys of inverse maps that are ignored beside it. Hugging Face writes incomplete
inverse maps."""

_KEY_AND_NAME = re.compile(r"\d{1,9}\s*[:=|;]\s*\S")

_WNID_KEYS = frozenset(("wnid", "synset", "wordnet_id"))


def labels_from_data(data: object) -> tuple[Label, ...]:
    """Return labels from nested lists and dicts.

    Args:
        data: One of the forms in the docstring of this module. Indices are whole numbers or
            strings of digits. Names can be `Label` objects.

    Returns:
        The labels in the order of the logits; none if `data` is empty.

    Raises:
        ValueError: `data` has another form, is ambiguous, or its indices are not 0, 1, 2, ...
    """
    if isinstance(data, Mapping):
        return _parse_dict(data)
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes, bytearray, memoryview)):
        return _parse_list(data)
    raise ValueError("it is neither a list of names nor a map between names and indices")


def _parse_dict(data: Mapping[object, object]) -> tuple[Label, ...]:
    nested = _find_containers(data)
    if nested:
        return _parse_containers(nested)
    if _are_indices(data.values()):
        return make_labels(_require_names(order_names(data)))
    if data and all(isinstance(key, str) and WNID.fullmatch(key) for key in data):
        return _parse_wnid_dict(data)
    return make_labels([_parse_entry(entry) for entry in order_names(data)])


def order_names(data: Mapping[Any, Any]) -> list[Any]:
    """Return the names in a map between names and indices, in the order of the indices.

    Args:
        data: The map. If all values are whole numbers, these are the indices and the keys are the
            names. Otherwise the keys are the indices, as whole numbers or strings of digits, and
            the values are the names, whose type is not checked.

    Raises:
        ValueError: The indices are not 0, 1, 2, ...
    """
    if _are_indices(data.values()):
        return order_by_index([(index, name) for name, index in data.items()])
    return order_by_index([(_parse_index(key), name) for key, name in data.items()])


def _are_indices(values: Collection[object]) -> bool:
    """Return whether all values are whole numbers; False if there are none."""
    return len(values) > 0 and all(map(_is_whole_number, values))


def _is_whole_number(value: object) -> TypeGuard[int]:
    """Return whether a value is an int, such as a member of an IntEnum, but not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def _find_containers(data: Mapping[object, object]) -> dict[str, object]:
    """Return the lists and dicts under usual keys."""
    nested = {
        key: data[key]
        for key in CONTAINER_KEYS
        if key in data and isinstance(data[key], (Mapping, list, tuple))
    }
    for key, inverses in _INVERSES.items():
        if key in nested:
            nested = {name: value for name, value in nested.items() if name not in inverses}
    return nested


def _parse_containers(nested: Mapping[str, object]) -> tuple[Label, ...]:
    """Parse the values under usual keys, and require that they agree."""
    parsed = {key: labels_from_data(value) for key, value in nested.items()}
    first_key, labels = next(iter(parsed.items()))
    for key, other in parsed.items():
        if other != labels:
            raise ValueError(f"{first_key} and {key} contain different labels")
    return labels


def _parse_wnid_dict(data: Mapping[object, object]) -> tuple[Label, ...]:
    """Parse {"n01440764": "tench", ...}, whose order is known only if the ids are sorted."""
    wnids = [str(key) for key in data]
    if wnids != sorted(wnids):
        raise ValueError("its WordNet ids are not sorted, so the order of the classes is not known")
    names = _require_names(list(data.values()))
    return make_labels([Label(str(name), wnid) for wnid, name in zip(wnids, names)])


def _parse_index(key: object) -> int:
    if _is_whole_number(key) and key >= 0:
        return key
    if isinstance(key, str) and INDEX.fullmatch(key.strip()):
        return int(key)
    raise ValueError(f"its indices are not 0, 1, 2, ...: {str(key)[:40]!r} is none")


def _parse_entry(value: object) -> str | Label:
    """Parse the value of an index: a name, or Keras' ["n01440764", "tench"]."""
    if isinstance(value, (list, tuple)):
        is_pair = len(value) == 2 and all(isinstance(part, str) for part in value)
        if is_pair and WNID.fullmatch(value[0]):
            return Label(value[1], value[0])
        if is_pair and WNID.fullmatch(value[1]):
            return Label(value[0], value[1])
    return _require_names([value])[0]


def _parse_list(data: Sequence[object]) -> tuple[Label, ...]:
    if data and all(isinstance(entry, Mapping) for entry in data):
        return _parse_records([entry for entry in data if isinstance(entry, Mapping)])
    if data and all(isinstance(entry, (list, tuple)) for entry in data):
        rows = [list(entry) for entry in data if isinstance(entry, (list, tuple))]
        if not all(isinstance(cell, str) or type(cell) is int for row in rows for cell in row):
            raise ValueError("a name is not a string")
        return parse_rows([list(map(str, row)) for row in rows], may_have_titles=False)
    names = _require_names(data)
    if names and all(isinstance(name, str) and _KEY_AND_NAME.match(name) for name in names):
        raise ValueError("its names begin with indices: give a map from indices to names")
    return make_labels(names)


def _parse_records(records: Sequence[Mapping[object, object]]) -> tuple[Label, ...]:
    """Parse [{"id": 0, "name": "cat"}, ...], with or without indices."""
    names: list[str | Label] = []
    indices: list[int] = []
    for record in records:
        keys = [key for key in record if isinstance(key, str)]
        name_keys = [
            key for key in keys if key.lower() in NAME_TITLES and isinstance(record[key], str)
        ]
        if len(name_keys) != 1:
            raise ValueError("an entry does not have exactly one name")
        name = str(record[name_keys[0]])
        wnids = [str(record[key]) for key in keys if key.lower() in _WNID_KEYS]
        names.append(Label(name, wnids[0]) if len(wnids) == 1 else name)
        index_keys = [
            key for key in keys if key.lower() in INDEX_TITLES and type(record[key]) is int
        ]
        indices += [_parse_index(record[key]) for key in index_keys]
    if not indices:
        return make_labels(names)
    if len(indices) != len(names):
        raise ValueError("not every entry has exactly one index")
    return make_labels(order_by_index(list(zip(indices, names))))


def _require_names(names: Sequence[object]) -> list[str | Label]:
    if not all(isinstance(name, (str, Label)) for name in names):
        raise ValueError("a name is not a string")
    return [name for name in names if isinstance(name, (str, Label))]
