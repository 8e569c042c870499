"""Golden inputs: test images defined by integer formulas that any language can repeat.

An artifact carries the logits that the PyTorch model computes for these images, so that a device
can check the artifact without any other file. In the formulas, s is the pattern number, y the row,
x the column, and c the channel (0, 1, 2 for red, green, blue). The formula "triangle-chirp-1" has
the patterns s = 0, 1, 2:

    u = ((3 + 2 s) x + (7 + 4 s) y + floor(x y / 2^(4 + s)) + 85 c) mod 512
    pixel = u if u < 256 else 511 - u

The formula "chirps-and-squares-1" has the same patterns for s < 3, and checkerboards of black and
white squares for s = p + 64 d, where the side p of a square is 3 to 63 and the shift d is less
than 2 p:

    pixel = 255 ((floor((x + d) / p) + floor((y + d mod p) / p)) mod 2)

Squares whose edges fall inside the network's patches detect kernels that saturate, which chirps
rarely do (docs/int8.md). Chirps detect errors that squares cannot, such as swapped channels or
swapped rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

CHIRP_FORMULA, SQUARES_FORMULA = "triangle-chirp-1", "chirps-and-squares-1"

PATTERNS = (0, 1, 2)
"""Pattern numbers of the chirps, which both formulas have."""

_SHIFT_FACTOR = 64
"""A pattern of squares is numbered side + _SHIFT_FACTOR * shift."""


def square_pattern(side: int, shift: int = 0) -> int:
    """Return the number of a checkerboard pattern of "chirps-and-squares-1".

    Args:
        side: Side of the squares in pixels, 3 to 63.
        shift: Pixels by which the board is moved up and to the left. A shift by `side` swaps black
            and white.

    Returns:
        The pattern number.
    """
    return side + _SHIFT_FACTOR * (shift % (2 * side))


def is_supported(formula: str, patterns: Iterable[int]) -> bool:
    """Tell whether this version can generate patterns.

    Args:
        formula: Name of the formula.
        patterns: Pattern numbers.
    """
    return formula in (CHIRP_FORMULA, SQUARES_FORMULA) and all(
        pattern in PATTERNS or (formula == SQUARES_FORMULA and _is_square_pattern(pattern))
        for pattern in patterns
    )


def make_pattern(pattern: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Generate the golden input of a pattern.

    Args:
        pattern: A pattern number that `is_supported` accepts.
        height: Height in pixels.
        width: Width in pixels.

    Returns:
        An RGB image, uint8 (height, width, 3).
    """
    y, x, c = np.ogrid[:height, :width, :3]
    if pattern not in PATTERNS:
        d, p = divmod(pattern, _SHIFT_FACTOR)
        is_white = ((x + d) // p + (y + d % p) // p) % 2
        gray: npt.NDArray[np.uint8] = (255 * is_white).astype(np.uint8)
        return gray.repeat(3, axis=2)
    s = pattern
    u = ((3 + 2 * s) * x + (7 + 4 * s) * y + ((x * y) >> (4 + s)) + 85 * c) % 512
    pixels: npt.NDArray[np.uint8] = np.where(u < 256, u, 511 - u).astype(np.uint8)
    return pixels


def _is_square_pattern(pattern: int) -> bool:
    shift, side = divmod(pattern, _SHIFT_FACTOR)
    return pattern > 0 and side > max(PATTERNS) and shift < 2 * side
