"""A reproducible order of items that draws evenly from all groups, such as classes.

Items are ordered by the SHA-256 of their names, so the order is the same on every file system and
with every version of Python and numpy.
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
    """Order items so that the groups take turns, each giving one item while it has any left.

    For any n, the first n items of the result are therefore a stratified sample.

    Args:
        items: The items, in any order.
        name_of: Function that returns the name of an item, unique among the items.
        group_of: Function that returns the group of an item, as a tuple of strings.
        seed: Within a group, items are ordered by the hash of f"{seed}:{name}". Groups are ordered
            by the hash of f"{seed}:{group}", where the strings of `group` are joined by "/". If
            `seed` is None, items are ordered by the hash of the name and groups alphabetically.

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
        count: How many to choose. If there are fewer items, all are chosen.
        name_of: Function that returns the name of an item, unique among the items.
        group_of: Function that returns the group of an item, as a tuple of strings.
        seed: Seed of the choice, or None, as in `order_stratified`.

    Returns:
        The chosen items, sorted by name.
    """
    return sorted(order_stratified(items, name_of, group_of, seed)[:count], key=name_of)


def _hash(name: str) -> bytes:
    # Python represents bytes of file names that are not UTF-8 as surrogates.
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
