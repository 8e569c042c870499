"""Checks the numbers of a record, which may come from an untrusted source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

MAX_NUMBER = 1e15
"""Largest absolute value of a number in a record, so that no sum or ratio of numbers overflows."""

MIN_TIME_MS = 1e-6
"""Shortest time of a query, one nanosecond, which is the resolution of the clock. Ratios of times
are computed, so that zero must be excluded."""

_PERCENTAGES = (
    "agreement",
    "expected_calibration_error",
    "reference_top1",
    "top1",
    "top1_interval",
    "top5",
    "top5_interval",
)
"""Names of the fields with percentages, from 0 to 100."""

_QUERY_TIMES = ("median_ms", "turns_ms")
"""Names of the fields with times of queries, at least `MIN_TIME_MS`."""


def require_possible_numbers(data: Any) -> None:
    """Refuse numbers that no measurement can have.

    Args:
        data: A record, or a part of it: a dataclass, whose fields are checked.

    Raises:
        ValueError: A number is out of range. The message names its field.
    """
    for field in fields(data):
        low, high = _find_range(field.name)
        for item in _iterate_items(getattr(data, field.name)):
            if is_dataclass(item):
                require_possible_numbers(item)
            elif isinstance(item, (int, float)) and not low <= item <= high:
                raise ValueError(f"{field.name} is not from {low:g} to {high:g}")


def _find_range(name: str) -> tuple[float, float]:
    """Return the smallest and the largest possible number in the field of this name."""
    if name in _PERCENTAGES:
        return 0, 100
    if name == "cosine":
        return -1, 1
    return (MIN_TIME_MS if name in _QUERY_TIMES else -MAX_NUMBER), MAX_NUMBER


def _iterate_items(value: Any) -> Iterator[Any]:
    """Iterate over the values in nested tuples and dicts, or over the value itself."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if not isinstance(value, tuple):
        yield value
        return
    for item in value:
        yield from _iterate_items(item)
