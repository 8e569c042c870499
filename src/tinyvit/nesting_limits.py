"""Limits on the nesting and the number of lists and objects in untrusted text.

The functions take plain values, such as a parser of JSON or TOML returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

MAX_DEPTH = 32
"""Largest accepted depth to which lists and objects in a text may be nested."""

MAX_OPENINGS = 2_000_000
"""Largest number of opening brackets and braces in a JSON text, also within its strings. Python's
parser takes up to 2 microseconds and 64 bytes for each empty object. Records, recipes and
manifests have less than 200,000; a list of a million labels can have one for each of them."""


def require_few_openings(text: str | bytes) -> None:
    """Raise ValueError if a JSON text may contain too many lists and objects.

    Args:
        text: The text, before it is parsed.
    """
    if isinstance(text, str):
        count = text.count("[") + text.count("{")
    else:
        count = text.count(b"[") + text.count(b"{")
    if count > MAX_OPENINGS:
        raise ValueError(f"it has more than {MAX_OPENINGS} lists and objects")


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
