"""Finds paths by their last folders, also among very many with the same file name."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FolderIndex(Generic[Item]):
    """Items in folders. Folders are compared from the last one to the first.

    The folders are sorted in this order, so that a search takes logarithmic time.
    """

    def __init__(self) -> None:
        """Create an empty index."""
        self._entries: list[tuple[tuple[str, ...], int, Item]] = []
        self._is_sorted = True
        self._depths: list[int] = []

    def add(self, folders: Sequence[str], item: Item) -> None:
        """Add an item.

        Args:
            folders: The folders of its path, the outermost first.
            item: The item.
        """
        self._entries.append((tuple(reversed(folders)), len(self._entries), item))
        self._is_sorted = False

    def find_nearest(self, folders: Sequence[str]) -> list[Item]:
        """Find the items that have most of the last folders in common with a path.

        Args:
            folders: The folders of the path, the outermost first.

        Returns:
            The items, in the order in which they were added. All items if none has a folder in
            common with the path.
        """
        wanted = tuple(reversed(folders))
        self._sort()
        place = bisect_left(self._entries, wanted, key=_get_folders)
        neighbors = self._entries[max(place - 1, 0) : place + 1]
        count = max((_count_common(entry[0], wanted) for entry in neighbors), default=0)
        return self._list_items(wanted[:count])

    def find_compatible(self, folders: Sequence[str]) -> tuple[int, list[Item]]:
        """Find the items whose folders are those of a path, except that one may begin with more.

        Args:
            folders: The folders of the path, the outermost first.

        Returns:
            The largest number of folders that such items have in common with the path, and the
            items with that number.
        """
        wanted = tuple(reversed(folders))
        self._sort()
        items = self._list_items(wanted)
        if items:
            return len(wanted), items
        for length in self._depths:
            start = bisect_left(self._entries, wanted[:length], key=_get_folders)
            end = bisect_right(self._entries, wanted[:length], key=_get_folders)
            if start < end and length < len(wanted):
                return length, [entry[2] for entry in self._entries[start:end]]
        return 0, []

    def _sort(self) -> None:
        """Sort the items by their folders, and list the numbers of folders, after an addition."""
        if not self._is_sorted:
            self._entries.sort(key=_get_folders)
            self._depths = sorted({len(entry[0]) for entry in self._entries}, reverse=True)
            self._is_sorted = True

    def _list_items(self, ending: tuple[str, ...]) -> list[Item]:
        """List the items whose last folders are `ending`, in the order of their addition."""

        def get_ending(entry: tuple[tuple[str, ...], int, Item]) -> tuple[str, ...]:
            return entry[0][: len(ending)]

        start = bisect_left(self._entries, ending, key=get_ending)
        end = bisect_right(self._entries, ending, key=get_ending)
        return [entry[2] for entry in sorted(self._entries[start:end], key=_get_number)]


def _get_folders(entry: tuple[tuple[str, ...], int, Item]) -> tuple[str, ...]:
    return entry[0]


def _get_number(entry: tuple[tuple[str, ...], int, Item]) -> int:
    return entry[1]


def _count_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return how many items at the beginning of two sequences are equal."""
    count = 0
    for pair in zip(first, second):
        if pair[0] != pair[1]:
            break
        count += 1
    return count
