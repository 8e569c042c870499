"""Search for dicts that may describe the network in the metadata of a checkpoint."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

_UNRELATED = re.compile(
    r"optim|sched|callback|loops|scaler|rng|metric|train_(aug|trans)|teacher", re.IGNORECASE
)
"""Matches a part of the keys of dicts that do not describe the evaluation of the network."""

_MAX_DEPTH = 10
"""Values that are nested deeper are not searched. An exported Learner of fastai has the names of
the classes at the depth 9."""

_MAX_DICTS = 2000
"""The search ends after this number of dicts, and visits at most this number of values in each.
The file may come from an untrusted source, and must not slow the search down."""

_MAX_KEY_LENGTH = 1000
"""Dicts and lists under longer keys, in characters, are not searched. Their paths, which begin with
the same long key, could fill the memory."""

_MAX_LIST_ELEMENTS = 64
"""At most this number of elements of each list are searched."""


def walk_dicts(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Iterate over the dicts in nested dicts and lists that may describe the network.

    Args:
        metadata: The outermost dict.

    Yields:
        The keys that lead to a dict, joined with "." ("" for the outermost), and the dict. Dicts
        that are nested less deeply come first.
    """
    queue: deque[tuple[str, Any, int]] = deque([("", metadata, 0)])
    dict_count = 0
    while queue and dict_count < _MAX_DICTS:
        path, value, depth = queue.popleft()
        if isinstance(value, Mapping):
            dict_count += 1
            yield path, value
            children = [(str(key), child) for key, child in list(value.items())[:_MAX_DICTS]]
        else:
            children = [
                (str(index), child) for index, child in enumerate(value[:_MAX_LIST_ELEMENTS])
            ]
        if depth < _MAX_DEPTH:
            queue.extend(
                (f"{path}.{key}" if path else key, child, depth + 1)
                for key, child in children
                if isinstance(child, (Mapping, list, tuple))
                and len(key) <= _MAX_KEY_LENGTH
                and not _UNRELATED.search(key)
            )
