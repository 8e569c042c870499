"""Numbers of bytes in messages."""

from __future__ import annotations

_LARGEST_STATED = 2**60
"""Larger numbers are not stated, because some have no float and more digits than Python prints."""


def format_gib(byte_count: int) -> str:
    """Format a number of bytes in GiB, such as "1.5 GiB".

    Args:
        byte_count: The number, of any size: a hostile file may state the factors of any product.
    """
    if byte_count > _LARGEST_STATED:
        return f"over {_LARGEST_STATED >> 30:,} GiB"
    return f"{byte_count / 2**30:.1f} GiB"
