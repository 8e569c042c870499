"""Golden inputs are what their formulas say, and only those that the formula named has are taken."""

from __future__ import annotations

import numpy as np
import pytest

from tinyvit.golden import (
    CHIRP_FORMULA,
    PATTERNS,
    SQUARES_FORMULA,
    is_supported,
    make_pattern,
    square_pattern,
)


@pytest.mark.parametrize(("side", "shift"), [(8, 0), (8, 8), (12, 0), (16, -12), (3, 5), (63, 125)])
def test_squares(side: int, shift: int) -> None:
    """Edges moved up and to the left; by a whole side, black and white swap."""
    found = make_pattern(square_pattern(side, shift), 150, 170)
    assert (found.shape, found.dtype) == ((150, 170, 3), np.uint8)
    d = shift % (2 * side)
    for y, x in ((0, 0), (7, 90), (149, 169), (64, 3), (33, 33)):
        assert (found[y, x] == 255 * (((x + d) // side + (y + d % side) // side) % 2)).all()
    assert (make_pattern(square_pattern(side, shift + side), 150, 170) == 255 - found).all()


def test_the_first_patterns_are_the_old_ones() -> None:
    first = [make_pattern(s, 20, 30) for s in PATTERNS]
    assert [picture[11, 13].tolist() for picture in first] == [
        [124, 209, 217],
        [190, 236, 151],
        [253, 168, 83],
    ]


@pytest.mark.parametrize(
    ("formula", "patterns", "expected"),
    [
        (CHIRP_FORMULA, (0, 1, 2), True),
        (CHIRP_FORMULA, (0, 1, 2, 8), False),
        (SQUARES_FORMULA, (0, 1, 2, 8, 520, 12), True),
        (SQUARES_FORMULA, (square_pattern(63, 125), square_pattern(3)), True),
        (SQUARES_FORMULA, (64,), False),
        (SQUARES_FORMULA, (2 + 64,), False),
        (SQUARES_FORMULA, (8 + 64 * 16,), False),
        (SQUARES_FORMULA, (-56,), False),
        ("other", (0,), False),
    ],
)
def test_what_is_known(formula: str, patterns: tuple[int, ...], expected: bool) -> None:
    assert is_supported(formula, patterns) == expected
