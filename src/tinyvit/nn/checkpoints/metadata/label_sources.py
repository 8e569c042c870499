"""Finds the class labels that a checkpoint or its `config.json` names.

Checkpoints name classes in many forms: lists, maps from index to name or from name to index, and
lists of objects with an id and a name. If an entry states the index of each class, the labels are
in the order of these indices, otherwise in the order of the entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tinyvit.labels import MAX_CLASSES, Label, imagenet_labels, labels_by_wnid
from tinyvit.labels.label_construction import check_lengths
from tinyvit.labels.label_keys import (
    LIST_KEYS,
    MAP_KEYS,
    PLACEHOLDER,
    VAGUE_KEYS,
    normalize_key,
)
from tinyvit.nn.checkpoints.metadata.label_entries import read_names
from tinyvit.nn.checkpoints.metadata.metadata_search import walk_dicts
from tinyvit.nn.checkpoints.pickles.records import UnorderedList
from tinyvit.nn.checkpoints.weights import Weights
from tinyvit.variants import IMAGENET_1K, IMAGENET_22K

_ABOUT_CLASSES = re.compile(r"class|label", re.IGNORECASE)
"""Matches a part of the keys of entries that may describe the classes."""

_MAX_REASONS = 4
"""The description of a source gives the reasons for at most this many unused entries, and only
counts further ones."""

_IMAGENET = {IMAGENET_1K: "ImageNet-1k", IMAGENET_22K: "ImageNet-22k"}


@dataclass(frozen=True)
class _NamedClasses:
    """An entry of a checkpoint or of its `config.json` that names classes.

    Attributes:
        name: Name of the entry in messages, such as "class_to_idx in the checkpoint".
        labels: The labels in the order of the logits; None if they cannot be used.
        problem: Why the labels cannot be used, as the end of a sentence that begins with `name`; ""
            if they can be used.
    """

    name: str
    labels: tuple[Label, ...] | None
    problem: str = ""


def find_labels(
    weights: Weights, num_classes: int, path: Path
) -> tuple[tuple[Label, ...] | None, str]:
    """Find the labels of a network.

    Names in the checkpoint come first, then those in `config.json`. Without any, a network with
    1000 or 21841 classes is assumed to have those of ImageNet, and the source says so.

    Args:
        weights: The content of the checkpoint file.
        num_classes: Number of classes of the network.
        path: The checkpoint, for messages.

    Returns:
        The labels, or None if they are unknown; and a description of their source, which also
        states which entries were not used, and why.
    """
    entries = list(_list_entries(weights, num_classes))
    usable = [entry for entry in entries if entry.labels is not None]
    unused = [f"{entry.name} {entry.problem}" for entry in entries if entry.labels is None]
    if usable:
        first = usable[0]
        unused += [
            f"{entry.name} names other classes or another order"
            for entry in usable[1:]
            if _names(entry) != _names(first)
        ]
        return first.labels, _describe(first.name, unused)
    # A file that names classes of its own, in whatever form, is not assumed to have ImageNet's.
    labels = None if unused else imagenet_labels(num_classes)
    if labels is not None:
        # An entry in a form that is not understood may name other classes, too.
        unused = list(_list_unread(weights, num_classes))
        labels = None if unused else labels
    if labels is None:
        return None, _describe("none in the checkpoint, so the classes are numbered", unused)
    source = (
        f"assumed: {_IMAGENET[num_classes]}, because the network has {num_classes} classes and"
        f" {path.name} names none (--labels for others)"
    )
    return labels, source


def _describe(source: str, unused: list[str]) -> str:
    """Return the text for a source, with the reasons why other entries were not used."""
    if not unused:
        return source
    reasons = list(dict.fromkeys(unused))
    more = f", and {len(reasons) - _MAX_REASONS} more" if len(reasons) > _MAX_REASONS else ""
    return f"{source}; not used: {', '.join(reasons[:_MAX_REASONS])}{more}"


def _names(entry: _NamedClasses) -> list[str]:
    return [label.name for label in entry.labels or ()]


def _list_entries(weights: Weights, num_classes: int) -> Iterator[_NamedClasses]:
    """Iterate over all entries that name classes, the most important first."""
    checkpoint = [
        (f" in {path} of the checkpoint" if path else " in the checkpoint", values)
        for path, values in walk_dicts(weights.metadata)
    ]
    config = [(" in config.json", values) for _, values in walk_dicts(weights.config)]
    for located_dicts in (checkpoint, config):
        # Maps come before lists, because the order of a list may differ from that of the logits.
        for keys in (MAP_KEYS, (*LIST_KEYS, *VAGUE_KEYS)):
            for location, values in located_dicts:
                for key in _find_keys(values, keys):
                    entry = _read_entry(key, location, values[key], num_classes)
                    if entry is not None:
                        yield entry


def _find_keys(values: Mapping[Any, Any], known_keys: Sequence[str]) -> list[str]:
    """Return the keys of a dict that are in `known_keys`, in the order of `known_keys`."""
    ranks = {key: rank for rank, key in enumerate(known_keys)}
    label_keys = [key for key in values if isinstance(key, str) and normalize_key(key) in ranks]
    return sorted(label_keys, key=lambda key: ranks[normalize_key(key)])


def _list_unread(weights: Weights, num_classes: int) -> Iterator[str]:
    """Describe entries that may name the classes in a form that `_list_entries` cannot read.

    Their keys contain "class" or "label", and they have as many elements as there are classes.
    """
    for file, metadata in (("the checkpoint", weights.metadata), ("config.json", weights.config)):
        for path, values in walk_dicts(metadata):
            for key, value in islice(values.items(), MAX_CLASSES):
                is_sized = isinstance(value, (Mapping, list, tuple)) and len(value) == num_classes
                if (
                    is_sized
                    and _ABOUT_CLASSES.search(str(key))
                    and not _has_placeholders(key, value)
                ):
                    name = f"{path}.{key}" if path else str(key)
                    count = f"{num_classes} entries, which were not understood"
                    yield f"{name[:80]} in {file} has {count}"


def _has_placeholders(key: str, value: Any) -> bool:
    """Return whether an entry has only names such as "LABEL_0"."""
    try:
        names = read_names(normalize_key(key), value)
    except ValueError:
        return False
    return bool(names) and all(PLACEHOLDER.fullmatch(text) for text, _ in names)


def _read_entry(key: str, location: str, value: Any, num_classes: int) -> _NamedClasses | None:
    """Read an entry; return None if it does not name classes, such as the labels of a batch.

    Args:
        key: The key of the entry.
        location: Where the entry is, such as " in the checkpoint".
        value: The value of the entry.
        num_classes: Number of classes of the network.
    """
    name, is_vague = key + location, normalize_key(key) in VAGUE_KEYS
    try:
        names = read_names(normalize_key(key), value)
        check_lengths([text for text, _ in names])
    except ValueError as error:
        has_other_size = not isinstance(value, UnorderedList) or len(value) != num_classes
        if is_vague and has_other_size:
            return None
        return _NamedClasses(name, None, f"cannot be used ({error})")
    if not names or all(PLACEHOLDER.fullmatch(text) for text, _ in names):
        return None
    if len(names) != num_classes:
        problem = f"has {len(names)} names, and the network has {num_classes} classes"
        return None if is_vague else _NamedClasses(name, None, problem)
    imagenet = labels_by_wnid()
    return _NamedClasses(name, tuple(imagenet.get(text, Label(text, wnid)) for text, wnid in names))
