"""Numbers of bytes in messages have a unit, and any number can be stated."""

from __future__ import annotations

import pytest

from tinyvit.text.byte_counts import format_gib


@pytest.mark.parametrize(
    ("byte_count", "text"),
    [
        (0, "0.0 GiB"),
        (3 * 2**29, "1.5 GiB"),
        (2**60, "1073741824.0 GiB"),
        (2**60 + 1, "over 1,073,741,824 GiB"),
    ],
)
def test_a_number_has_its_unit(byte_count: int, text: str) -> None:
    assert format_gib(byte_count) == text


def test_a_number_without_a_float_is_stated() -> None:
    assert format_gib(10**20_000) == "over 1,073,741,824 GiB"
