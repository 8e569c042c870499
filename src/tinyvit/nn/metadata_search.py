"""Search for dicts that may describe the network in the metadata of a checkpoint."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

_UNRELATED = re.compile(
    r"optim|sched|callback|loops|scaler|rng|metric|train_(aug|trans)|teacher", re.IGNORECASE
)
"""Finds keys of dicts that do not describe the evaluation of the network."""

_MAX_DEPTH, _MAX_DICTS = 6, 2000
"""Largest depth of nesting, and number of dicts, in the search. A file from an untrusted source
must not slow it down."""


def walk_dicts(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Iterate over the dicts in nested dicts and lists that may describe the network.

    Args:
        metadata: The outermost dict.

    Yields:
        The keys that lead to the dict, joined with "." ("" for the outermost), and the dict. Dicts
        with fewer keys before them come first.
    """
    queue: deque[tuple[str, Any, int]] = deque([("", metadata, 0)])
    yielded = 0
    while queue and yielded < _MAX_DICTS:
        path, value, depth = queue.popleft()
        if isinstance(value, Mapping):
            yielded += 1
            yield path, value
            children = [(str(key), child) for key, child in list(value.items())[:_MAX_DICTS]]
        else:
            children = [(str(index), child) for index, child in enumerate(value[:64])]
        if depth < _MAX_DEPTH:
            queue.extend(
                (f"{path}.{key}" if path else key, child, depth + 1)
                for key, child in children
                if isinstance(child, (Mapping, list, tuple)) and not _UNRELATED.search(key)
            )
