"""Golden inputs: pictures given by a formula of integers, which any language can repeat.

An artifact carries the logits that the torch model gave for them, so that a device can be checked with nothing but
the file. For pattern s, row y, column x and channel c (R, G, B = 0, 1, 2), "triangle-chirp-1" is

    u = ((3 + 2 s) x + (7 + 4 s) y + floor(x y / 2^(4 + s)) + 85 c) mod 512        s = 0, 1, 2
    pixel = u if u < 256 else 511 - u

and "chirps-and-squares-1" is the same for s < 3, and black and white squares for s = p + 64 d, p from 3 to 63, d < 2 p:

    pixel = 255 ((floor((x + d) / p) + floor((y + d mod p) / p)) mod 2)

Squares whose edges fall between the network's patches show a kernel that saturates, which chirps hardly do
(docs/int8.md). Chirps show what squares cannot: swapped channels, rows for columns.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

CHIRP_FORMULA, SQUARES_FORMULA = "triangle-chirp-1", "chirps-and-squares-1"
PATTERNS = (0, 1, 2)
_SHIFT = 64


def square_pattern(side: int, shift: int = 0) -> int:
    """The pattern of squares of `side` pixels (3 to 63), moved `shift` pixels up and to the left; by `side`, black and white swap."""
    return side + _SHIFT * (shift % (2 * side))


def is_supported(formula: str, patterns: Iterable[int]) -> bool:
    """Whether this version can make them."""
    return formula in (CHIRP_FORMULA, SQUARES_FORMULA) and all(
        s in PATTERNS or (formula == SQUARES_FORMULA and _are_squares(s)) for s in patterns
    )


def _are_squares(s: int) -> bool:
    return s > 0 and s % _SHIFT > max(PATTERNS) and s // _SHIFT < 2 * (s % _SHIFT)


def make_pattern(s: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Pattern s as an RGB picture, uint8 (height, width, 3)."""
    y, x, c = np.ogrid[:height, :width, :3]
    if s not in PATTERNS:
        d, p = divmod(s, _SHIFT)
        one: npt.NDArray[np.uint8] = (255 * (((x + d) // p + (y + d % p) // p) % 2)).astype(
            np.uint8
        )
        return one.repeat(3, axis=2)
    u = ((3 + 2 * s) * x + (7 + 4 * s) * y + ((x * y) >> (4 + s)) + 85 * c) % 512
    pixels: npt.NDArray[np.uint8] = np.where(u < 256, u, 511 - u).astype(np.uint8)
    return pixels
