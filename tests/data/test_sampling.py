"""The order of a stratified sample depends on names and the seed alone, and never changes."""

from __future__ import annotations

from collections import Counter

import pytest

from tinyvit.data.sampling import order_stratified, sample_stratified

NAMES = [
    f"{group}/{i}.png" for group, count in (("b", 3), ("a", 1), ("c", 2)) for i in range(count)
]


def name_of(name: str) -> str:
    return name


def group_of(name: str) -> tuple[str, ...]:
    return (name.partition("/")[0],)


def order(names: list[str], seed: int | None = None) -> list[str]:
    return order_stratified(names, name_of, group_of, seed)


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        (None, ["a/0.png", "b/0.png", "c/1.png", "b/2.png", "c/0.png", "b/1.png"]),
        (0, ["a/0.png", "c/0.png", "b/1.png", "c/1.png", "b/0.png", "b/2.png"]),
        (1, ["a/0.png", "b/2.png", "c/0.png", "b/0.png", "c/1.png", "b/1.png"]),
    ],
)
def test_the_order_is_the_recorded_one(seed: int | None, expected: list[str]) -> None:
    """Hashes of calibration sets and of limited datasets depend on this order."""
    assert order(NAMES, seed) == expected
    assert order(NAMES[::-1], seed) == expected


@pytest.mark.parametrize("seed", [None, 0, 5])
def test_groups_contribute_equally_as_far_as_they_go(seed: int | None) -> None:
    names = [
        f"{group}/{i}" for group, count in (("a", 4), ("b", 30), ("c", 30)) for i in range(count)
    ]
    ordered = order(names, seed)
    assert Counter(name[0] for name in ordered[:32]) == {"a": 4, "b": 14, "c": 14}
    assert sorted(ordered) == sorted(names)


def test_more_groups_than_items_are_drawn_by_the_seed() -> None:
    names = [f"class{i:02}/{i}.png" for i in range(50)]
    assert set(order(names, 0)[:32]) != set(names[:32])
    assert set(order(names, 0)[:32]) != set(order(names, 1)[:32])


def test_a_sample_is_sorted_by_name() -> None:
    for count in range(len(NAMES) + 2):
        sample = sample_stratified(NAMES, count, name_of, group_of)
        assert sample == sorted(order(NAMES)[:count])


def test_names_that_are_not_utf8_are_ordered() -> None:
    assert order(["a/\udcff", "a/b"], 0) != []
