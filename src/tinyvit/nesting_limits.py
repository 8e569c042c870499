"""Limits on the nesting and the number of lists and objects in untrusted text.

The functions take plain values, such as a parser of JSON or TOML returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

MAX_DEPTH = 32
"""Largest accepted depth to which lists and objects in a text may be nested."""


def check_depth(data: object) -> None:
    """Raise ValueError if lists and objects are nested deeper than MAX_DEPTH.

    Args:
        data: Plain values.
    """
    # The containers at one depth, from which those at the next depth are collected.
    containers = [data]
    for _ in range(MAX_DEPTH):
        children = chain.from_iterable(_list_children(container) for container in containers)
        containers = [child for child in children if isinstance(child, (dict, list))]
        if not containers:
            return
    raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")


def exceeds_entry_count(data: object, max_count: int) -> bool:
    """Return whether nested lists and objects have too many entries.

    Args:
        data: Plain values, as `parse_json` returns them.
        max_count: Largest accepted number of entries in all lists and objects together.
    """
    remaining, containers = max_count, [data]
    while containers:
        children = _list_children(containers.pop())
        remaining -= len(children)
        if remaining < 0:
            return True
        containers += [child for child in children if isinstance(child, (dict, list))]
    return False


def _list_children(container: object) -> Sequence[object]:
    """Return the values in a dict or list; none for any other object."""
    if isinstance(container, dict):
        return list(container.values())
    return container if isinstance(container, list) else []
