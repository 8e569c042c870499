"""Labels from lists and dicts: from JSON, YAML, a Python literal, a checkpoint or a caller.

Accepted are a list of names, a dict from indices to names or from names to indices, Keras'
{"0": ["n01440764", "tench"], ...}, COCO's [{"id": 0, "name": "cat"}, ...], and dicts that contain
one of these under a usual key such as "id2label", "classes" or "class_to_idx".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard

from tinyvit.labels.imagenet import MAX_CLASSES, Label
from tinyvit.labels.label_construction import make_labels, order_by_index
from tinyvit.labels.label_containers import LabelContainer, find_containers
from tinyvit.labels.label_keys import (
    INDEX_TO_NAME_KEYS,
    NAME_TO_INDEX_KEYS,
    PLACEHOLDER,
    normalize_key,
)
from tinyvit.labels.label_lines import parse_names
from tinyvit.labels.label_tables import (
    INDEX,
    INDEX_TITLES,
    NAME_TITLES,
    WNID,
    WNID_TITLES,
    parse_columns,
    parse_rows,
    refuse_scores,
)

LabelNames: TypeAlias = "Sequence[str | Label] | Mapping[Any, Any]"
"""Labels in one of the forms that `labels_from_data` reads, such as a list of names in the order of
the logits, or a map between indices and names."""

_MAX_CONTAINERS = 32
"""Largest number of keys that can contain the labels."""

_MAX_RECORD_KEYS = 100
"""Largest number of different keys in a list of dicts."""

_RECORD_TITLES = INDEX_TITLES | NAME_TITLES | WNID_TITLES


def labels_from_data(data: object) -> tuple[Label, ...]:
    """Return labels from nested lists and dicts.

    Args:
        data: One of the forms in the docstring of this module. Indices are whole numbers or
            strings of digits. Names can be `Label` objects.

    Returns:
        The labels in the order of the logits; none if `data` is empty.

    Raises:
        ValueError: `data` has another form, is ambiguous, its indices are not 0, 1, 2, ..., or it
            has too many labels.
    """
    if isinstance(data, (Mapping, list, tuple)) and len(data) > MAX_CLASSES:
        raise ValueError(f"it has more than {MAX_CLASSES} labels")
    if isinstance(data, Mapping):
        return _parse_dict(data)
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes, bytearray, memoryview)):
        return _parse_list(data)
    raise ValueError("it is neither a list of names nor a map between names and indices")


def _parse_dict(data: Mapping[Any, Any], container_key: str = "") -> tuple[Label, ...]:
    """Parse a dict. `container_key` is the key under which it is stored; "" if there is none."""
    containers = find_containers(data)
    if containers:
        return _parse_containers(containers)
    has_wnids = bool(data) and all(isinstance(key, str) and WNID.fullmatch(key) for key in data)
    if has_wnids and not all(map(_is_index, data.values())):
        return _parse_wnid_dict(data)
    entries = map(_parse_entry, _order_names(data, container_key))
    return make_labels(_require_names(list(entries)))


def _order_names(data: Mapping[Any, Any], container_key: str) -> list[Any]:
    """Return the names in a map between names and indices, in the order of the indices.

    Args:
        data: The map.
        container_key: The key under which the map is stored, which may show whether its keys are
            the indices or the names; "" if there is none.

    Raises:
        ValueError: The indices are not 0, 1, 2, ..., or the keys and the values can both be the
            indices.
    """
    # The pairs (index, name), if the keys of the map are the indices, and if its values are.
    from_index = list(data.items())
    from_name = [(value, name) for name, value in data.items()]
    if container_key in INDEX_TO_NAME_KEYS + NAME_TO_INDEX_KEYS:
        preferred = from_index if container_key in INDEX_TO_NAME_KEYS else from_name
        # The map may have been stored the other way round, which its indices show.
        if all(_is_index(index) for index, _ in preferred):
            names = _order_pairs(preferred)
            return [str(name) if _is_whole_number(name) else name for name in names]
    has_indices_as_values = len(data) > 0 and all(map(_is_index, data.values()))
    if not has_indices_as_values or all(map(_is_whole_number, data)):
        return _order_pairs(from_index)
    # JSON turns every key into a string, so strings of digits as keys can be indices or names.
    if all(map(_is_index, data)):
        return _choose_order(from_index, from_name)
    return _order_pairs(from_name)


def _choose_order(from_index: list[tuple[Any, Any]], from_name: list[tuple[Any, Any]]) -> list[str]:
    """Return the names in a map in which both the keys and the values can be indices."""
    orders = []
    for pairs in (from_index, from_name):
        if {int(index) for index, _ in pairs} == set(range(len(pairs))):
            orders.append([str(name) for name in _order_pairs(pairs)])
    if not orders:
        raise ValueError("neither its keys nor its values are 0, 1, 2, ...")
    if orders[0] != orders[-1]:
        raise ValueError(
            "both its keys and its values can be indices: put it under the key idx_to_class or"
            " class_to_idx"
        )
    return orders[0]


def _order_pairs(pairs: Sequence[tuple[Any, Any]]) -> list[Any]:
    """Return the names in the order of their indices, from pairs of an index and a name."""
    return order_by_index([(_parse_index(index), name) for index, name in pairs])


def _is_index(value: object) -> bool:
    """Return whether a value is a whole number from 0, or a text of one."""
    if isinstance(value, str):
        return INDEX.fullmatch(value.strip()) is not None
    return _is_whole_number(value) and value >= 0


def _is_whole_number(value: object) -> TypeGuard[int]:
    """Return whether a value is an int, such as a member of an IntEnum, but not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def _parse_containers(containers: Sequence[LabelContainer]) -> tuple[Label, ...]:
    """Parse the result of `find_containers`, and require that all containers agree."""
    if len(containers) > _MAX_CONTAINERS:
        raise ValueError(f"more than {_MAX_CONTAINERS} of its keys can contain the labels")
    parsed = [_parse_container(container) for container in containers]
    for container, labels in zip(containers, parsed):
        if labels != parsed[0]:
            raise ValueError(f"{containers[0].path} and {container.path} contain different labels")
    return parsed[0]


def _parse_container(container: LabelContainer) -> tuple[Label, ...]:
    """Parse the labels under one key, and compare them with the values beside them."""
    if isinstance(container.value, Mapping):
        labels = _parse_dict(container.value, normalize_key(container.key))
    else:
        labels = labels_from_data(container.value)
    for key, count in container.counts.items():
        if count != len(labels):
            raise ValueError(f"{container.path} has {len(labels)} labels, but {key} is {count}")
    for key, inverse in container.inverses.items():
        _refuse_contradiction(labels, container.path, inverse, key)
    return labels


def _refuse_contradiction(
    labels: Sequence[Label], path: str, inverse: Mapping[Any, Any], inverse_key: str
) -> None:
    """Raise ValueError if a map from names to indices contradicts the labels.

    The map may lack classes: Hugging Face writes incomplete ones, and those of classes with equal
    names have only the last of these.

    Args:
        labels: The labels.
        path: The keys that lead to them, for the message.
        inverse: The map.
        inverse_key: Its key, for the message.
    """
    pairs = list(inverse.items())
    if not all(map(_is_index, inverse.values())):  # the map is stored the other way round
        pairs = [(name, index) for index, name in pairs]
    for name, index in pairs:
        if PLACEHOLDER.fullmatch(str(name)):
            continue
        is_in_range = _is_index(index) and int(index) < len(labels)
        label = labels[int(index)] if is_in_range else None
        if label is None or str(name).strip() not in (label.name, label.wnid):
            shown = "no class" if label is None else repr(label.name[:40])
            raise ValueError(
                f"{path} and {inverse_key} contradict each other: class {str(index)[:40]} is"
                f" {shown} in the former and {str(name)[:40]!r} in the latter"
            )


def _parse_wnid_dict(data: Mapping[object, object]) -> tuple[Label, ...]:
    """Parse {"n01440764": "tench", ...}, whose order is known only if the ids are sorted."""
    wnids = [str(key) for key in data]
    if wnids != sorted(wnids):
        raise ValueError("its WordNet ids are not sorted, so the order of the classes is not known")
    names = _require_names(list(data.values()))
    return make_labels([Label(str(name), wnid) for wnid, name in zip(wnids, names)])


def _parse_index(key: Any) -> int:
    """Return the index that a key or a value stands for; raise ValueError if it is no index."""
    if not _is_index(key):
        raise ValueError(f"its indices are not 0, 1, 2, ...: {str(key)[:40]!r} is no index")
    return int(key)


def _parse_entry(value: object) -> object:
    """Return the label of Keras' ["n01440764", "tench"]; any other value unchanged."""
    if isinstance(value, (list, tuple)):
        is_pair = len(value) == 2 and all(isinstance(part, str) for part in value)
        if is_pair and WNID.fullmatch(value[0]):
            return Label(value[1], value[0])
        if is_pair and WNID.fullmatch(value[1]):
            return Label(value[0], value[1])
    return value


def _parse_list(data: Sequence[object]) -> tuple[Label, ...]:
    """Parse a list of dicts, of rows (lists of cells), or of names."""
    if data and all(isinstance(entry, Mapping) for entry in data):
        return _parse_records([entry for entry in data if isinstance(entry, Mapping)])
    if data and all(isinstance(entry, (list, tuple)) for entry in data):
        rows = [list(entry) for entry in data if isinstance(entry, (list, tuple))]
        if not all(isinstance(cell, str) or type(cell) is int for row in rows for cell in row):
            raise ValueError("a name is not a string")
        return parse_rows([list(map(str, row)) for row in rows], may_have_titles=False)
    names = _require_names(data)
    texts = [name for name in names if isinstance(name, str)]
    if len(texts) < len(names):
        return make_labels(names)
    try:
        return parse_names(texts)
    except ValueError as error:
        raise ValueError(f"its names are read like lines of text, and {error}") from error


def _parse_records(records: Sequence[Mapping[Any, Any]]) -> tuple[Label, ...]:
    """Parse [{"id": 0, "name": "cat"}, ...], with or without indices, like the rows of a table."""
    keys = dict.fromkeys(key for record in records for key in record if isinstance(key, str))
    if len(keys) > _MAX_RECORD_KEYS:
        raise ValueError(f"its entries have more than {_MAX_RECORD_KEYS} different keys")
    titles: list[str] = []
    columns: list[tuple[str, ...]] = []
    for key in keys:
        cells = [_make_cell(record.get(key)) for record in records]
        title = normalize_key(key)
        if None not in cells:
            titles.append(title)
            columns.append(tuple(cell for cell in cells if cell is not None))
        elif title in _RECORD_TITLES and any(cell is not None for cell in cells):
            number = cells.index(None) + 1
            raise ValueError(f"entry {number} does not have a name or a whole number as {key!r}")
    if not NAME_TITLES & set(titles):
        raise ValueError(f"its entries have no name: {', '.join(keys)[:80]!r} are their keys")
    if not any(all(map(INDEX.fullmatch, cells)) for cells in columns):
        refuse_scores(map(normalize_key, keys))
    return parse_names(columns[0]) if len(columns) == 1 else parse_columns(columns, titles)


def _make_cell(value: object) -> str | None:
    """Return a name or a whole number as text; None for anything else."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(int(value)) if _is_whole_number(value) else None


def _require_names(names: Sequence[object]) -> list[str | Label]:
    """Return the names in the order of the classes; raise ValueError if one is not a string."""
    for index, name in enumerate(names):
        if not isinstance(name, (str, Label)):
            raise ValueError(f"the name of class {index} is {str(name)[:40]}, not a string")
    return [name for name in names if isinstance(name, (str, Label))]
