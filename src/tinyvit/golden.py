"""Golden inputs: test images that programs in any language compute from the same integer formulas.

An artifact (exported file) contains the logits that the PyTorch model computes for these images, so
a device can check the artifact without any other file. A formula gives the value of each pixel,
where y is the row, x the column, and c the channel (0, 1, 2 for red, green, blue). A formula
describes several images, which differ in the pattern number s. The formula "triangle-chirp-1" has
the pattern numbers s = 0, 1, 2, which are chirps (waves whose frequency increases):

    u = ((3 + 2 s) x + (7 + 4 s) y + floor(x y / 2^(4 + s)) + 85 c) mod 512
    pixel = u if u < 256 else 511 - u

The formula "chirps-and-squares-1" gives the same images for s < 3. Its other images are
checkerboards of black and white squares. For these, s = p + 64 d, where p is the side of a square
in pixels, 3 to 63, and d is the shift of the board in pixels, less than 2 p:

    pixel = 255 ((floor((x + d) / p) + floor((y + (d mod p)) / p)) mod 2)

Squares whose edges are on the borders of the network's patches of 4 x 4 pixels reveal int8 kernels
that saturate, while chirps rarely reveal these (docs/lab-notes/int8.md). Chirps reveal errors that
squares cannot, such as swapped channels or swapped rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

CHIRP_FORMULA, SQUARES_FORMULA = "triangle-chirp-1", "chirps-and-squares-1"

CHIRP_PATTERNS = (0, 1, 2)
"""Pattern numbers of the chirps, which both formulas contain."""

_SHIFT_FACTOR = 64
"""The pattern number of a checkerboard is the side of a square plus 64 times the shift."""


def square_pattern_number(side: int, shift: int = 0) -> int:
    """Return the pattern number of a checkerboard of "chirps-and-squares-1".

    Args:
        side: Side of the squares in pixels, 3 to 63.
        shift: The board is moved to the left by this number of pixels, and up by its remainder
            after division by `side`. So a shift by `side` only swaps black and white.

    Returns:
        The pattern number.
    """
    return side + _SHIFT_FACTOR * (shift % (2 * side))


def is_supported(formula: str, patterns: Iterable[int]) -> bool:
    """Return whether this version of the package can generate these golden inputs.

    Args:
        formula: Name of the formula.
        patterns: Pattern numbers of the golden inputs.
    """
    if formula == CHIRP_FORMULA:
        return all(pattern in CHIRP_PATTERNS for pattern in patterns)
    if formula == SQUARES_FORMULA:
        return all(pattern in CHIRP_PATTERNS or _is_square_pattern(pattern) for pattern in patterns)
    return False


def make_golden_input(pattern: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Generate the golden input with a pattern number.

    Args:
        pattern: A pattern number that `is_supported` accepts.
        height: Height in pixels.
        width: Width in pixels.

    Returns:
        An RGB image, uint8 (height, width, 3).
    """
    # The variables have the names of the formulas in the docstring of this module.
    y, x, c = (axis.astype(np.int32) for axis in np.ogrid[:height, :width, :3])
    if pattern not in CHIRP_PATTERNS:
        d, p = divmod(pattern, _SHIFT_FACTOR)
        is_white = ((x + d) // p + (y + d % p) // p) % 2
        gray: npt.NDArray[np.uint8] = (255 * is_white).astype(np.uint8)
        return gray.repeat(3, axis=2)
    s = pattern
    u = ((3 + 2 * s) * x + (7 + 4 * s) * y + ((x * y) >> (4 + s)) + 85 * c) % 512
    pixels: npt.NDArray[np.uint8] = np.where(u < 256, u, 511 - u).astype(np.uint8)
    return pixels


def _is_square_pattern(pattern: int) -> bool:
    """Return whether a number is the pattern number of a checkerboard."""
    shift, side = divmod(pattern, _SHIFT_FACTOR)
    return pattern > 0 and side > max(CHIRP_PATTERNS) and shift < 2 * side
