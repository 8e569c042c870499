"""A reproducible choice or order of items, which draws evenly from groups such as classes.

Items are ordered by the SHA-256 of their names, so the order is the same on every file system and
with every version of Python and numpy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def order_stratified(
    items: Iterable[Item],
    get_name: Callable[[Item], str],
    get_group: Callable[[Item], tuple[str, ...]],
    seed: int | None = None,
) -> list[Item]:
    """Order items so that the groups take turns: one item of each group, then the next of each.

    A group without further items is skipped. For any n, the first n items of the result are
    therefore a stratified sample.

    Args:
        items: The items, in any order.
        get_name: Function that returns the name of an item, unique among the items.
        get_group: Function that returns the group of an item, as a tuple of strings.
        seed: Within a group, items are ordered by the hash of f"{seed}:{name}". Groups are ordered
            by the hash of f"{seed}:{group}", where the strings of `group` are joined by "/". If
            `seed` is None, items are ordered by the hash of the name and groups alphabetically.

    Returns:
        All items, each once.
    """
    prefix = "" if seed is None else f"{seed}:"

    def hash_item(item: Item) -> bytes:
        return _hash(prefix + get_name(item))

    def hash_group(group: tuple[str, ...]) -> bytes:
        return _hash(prefix + "/".join(group))

    members: dict[tuple[str, ...], list[Item]] = {}
    for item in sorted(items, key=hash_item):
        members.setdefault(get_group(item), []).append(item)
    groups = sorted(members) if seed is None else sorted(members, key=hash_group)
    ordered: list[Item] = []
    remaining = [iter(members[group]) for group in groups]
    while remaining:
        # Groups without further items are not asked again, so that many small groups beside a large
        # one do not take quadratic time.
        remaining = [group for group in remaining if _move_next(group, ordered)]
    return ordered


def sample_stratified(
    items: Iterable[Item],
    count: int,
    get_name: Callable[[Item], str],
    get_group: Callable[[Item], tuple[str, ...]],
    seed: int | None = None,
) -> list[Item]:
    """Choose items evenly from all groups.

    Args:
        items: The items, in any order.
        count: Number of items to choose. If there are fewer items, all are chosen.
        get_name: Function that returns the name of an item, unique among the items.
        get_group: Function that returns the group of an item, as a tuple of strings.
        seed: Seed of the choice, or None, as in `order_stratified`.

    Returns:
        The chosen items, sorted by name.
    """
    return sorted(order_stratified(items, get_name, get_group, seed)[:count], key=get_name)


def _move_next(group: Iterator[Item], ordered: list[Item]) -> bool:
    """Append the next item of a group to a list; return whether there was one."""
    for item in group:
        ordered.append(item)
        return True
    return False


def _hash(name: str) -> bytes:
    """Return the SHA-256 of a name."""
    # Python represents bytes of file names that are not UTF-8 as surrogates.
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
