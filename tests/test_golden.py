"""Golden inputs follow their formulas, and unknown patterns are recognized."""

from __future__ import annotations

import numpy as np
import pytest

from tinyvit.golden import (
    CHIRP_FORMULA,
    CHIRP_PATTERNS,
    SQUARES_FORMULA,
    is_supported,
    make_golden_input,
    square_pattern_number,
)


@pytest.mark.parametrize(("side", "shift"), [(8, 0), (8, 8), (12, 0), (16, -12), (3, 5), (63, 125)])
def test_squares_are_shifted_by_their_offset(side: int, shift: int) -> None:
    """Squares are shifted up and to the left; a shift by their side swaps black and white."""
    pixels = make_golden_input(square_pattern_number(side, shift), 150, 170)
    assert (pixels.shape, pixels.dtype) == ((150, 170, 3), np.uint8)
    d = shift % (2 * side)
    for y, x in ((0, 0), (7, 90), (149, 169), (64, 3), (33, 33)):
        assert (pixels[y, x] == 255 * (((x + d) // side + (y + d % side) // side) % 2)).all()
    assert (
        make_golden_input(square_pattern_number(side, shift + side), 150, 170) == 255 - pixels
    ).all()


def test_chirps_have_the_values_of_the_first_release() -> None:
    pixels = [make_golden_input(pattern, 20, 30)[11, 13].tolist() for pattern in CHIRP_PATTERNS]
    assert pixels == [[124, 209, 217], [190, 236, 151], [253, 168, 83]]


@pytest.mark.parametrize(
    ("formula", "patterns", "expected"),
    [
        ("triangle-chirp-1", (0, 1, 2), True),
        ("triangle-chirp-1", (0, 1, 2, 8), False),
        ("chirps-and-squares-1", (0, 1, 2, 8, 520, 12), True),
        ("chirps-and-squares-1", (63 + 64 * 125, 3), True),
        ("chirps-and-squares-1", (64,), False),
        ("chirps-and-squares-1", (2 + 64,), False),
        ("chirps-and-squares-1", (8 + 64 * 16,), False),
        ("chirps-and-squares-1", (-56,), False),
        ("other", (0,), False),
    ],
)
def test_unsupported_patterns_are_recognized(
    formula: str, patterns: tuple[int, ...], expected: bool
) -> None:
    assert is_supported(formula, patterns) == expected


def test_formula_names_in_manifests_do_not_change() -> None:
    assert (CHIRP_FORMULA, SQUARES_FORMULA) == ("triangle-chirp-1", "chirps-and-squares-1")
    assert square_pattern_number(63, 125) == 63 + 64 * 125
