"""Writes counts with their nouns for messages, such as "1 epoch" and "2 epochs"."""

from __future__ import annotations


def format_count(count: int, noun: str, plural: str | None = None) -> str:
    """Return a number and its noun, in the singular or the plural.

    Args:
        count: The number.
        noun: The noun in the singular, such as "epoch".
        plural: The noun in the plural; None for the noun with a final "s".
    """
    if count == 1:
        return f"1 {noun}"
    return f"{count} {plural or noun + 's'}"
