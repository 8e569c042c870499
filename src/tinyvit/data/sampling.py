"""A reproducible order of items that draws evenly from all groups, such as classes.

The order depends on the names of the items alone, through SHA-256: neither the file system nor a
version of Python or numpy changes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from itertools import zip_longest
from typing import TypeVar

Item = TypeVar("Item")


def order_stratified(
    items: Iterable[Item],
    name_of: Callable[[Item], str],
    group_of: Callable[[Item], tuple[str, ...]],
    seed: int | None = None,
) -> list[Item]:
    """Order items so that every group contributes one item in turn, as long as it has any left.

    Any beginning of the result is a stratified sample.

    Args:
        items: The items, in any order.
        name_of: Returns the name of an item, unique among the items.
        group_of: Returns the group of an item, as a tuple of strings.
        seed: Within a group, items are ordered by the hash of f"{seed}:{name}", and groups by the
            hash of f"{seed}:{group}", the group's strings joined by "/". With None, items are
            ordered by the hash of the name alone, and groups alphabetically.

    Returns:
        All items, each once.
    """
    prefix = "" if seed is None else f"{seed}:"

    def item_key(item: Item) -> bytes:
        return _hash(prefix + name_of(item))

    def seeded_group_key(group: tuple[str, ...]) -> bytes:
        return _hash(prefix + "/".join(group))

    groups: dict[tuple[str, ...], list[Item]] = {}
    for item in sorted(items, key=item_key):
        groups.setdefault(group_of(item), []).append(item)
    names = sorted(groups) if seed is None else sorted(groups, key=seeded_group_key)
    return [
        item
        for turn in zip_longest(*(groups[name] for name in names))
        for item in turn
        if item is not None
    ]


def sample_stratified(
    items: Iterable[Item],
    count: int,
    name_of: Callable[[Item], str],
    group_of: Callable[[Item], tuple[str, ...]],
    seed: int | None = None,
) -> list[Item]:
    """Choose items evenly from all groups.

    Args:
        items: The items, in any order.
        count: How many to choose. Where there are fewer, all are chosen.
        name_of: Returns the name of an item, unique among the items.
        group_of: Returns the group of an item, as a tuple of strings.
        seed: Another seed gives another choice, as in `order_stratified`.

    Returns:
        The chosen items, sorted by name.
    """
    return sorted(order_stratified(items, name_of, group_of, seed)[:count], key=name_of)


def _hash(name: str) -> bytes:
    # File names that are not UTF-8 reach Python with surrogates in them.
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
