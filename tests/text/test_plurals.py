"""Counts are written with the noun in the right number."""

from __future__ import annotations

import pytest

from tinyvit.text.plurals import format_count


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 epochs"), (1, "1 epoch"), (2, "2 epochs"), (1000, "1000 epochs")]
)
def test_only_one_is_singular(count: int, text: str) -> None:
    assert format_count(count, "epoch") == text


def test_a_plural_without_a_plain_s_is_given() -> None:
    assert format_count(1, "class", "classes") == "1 class"
    assert format_count(2, "class", "classes") == "2 classes"
