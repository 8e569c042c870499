"""Golden inputs: pictures given by a formula of integers, which any language can repeat.

An artifact carries the logits that the torch model gave for them, so that a device can be checked with nothing but
the file. For pattern s, row y, column x and channel c (R, G, B = 0, 1, 2):

    u = ((3 + 2 s) x + (7 + 4 s) y + floor(x y / 2^(4 + s)) + 85 c) mod 512
    pixel = u if u < 256 else 511 - u
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FORMULA = "triangle-chirp-1"
PATTERNS = (0, 1, 2)


def pattern(s: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Pattern s as an RGB picture, uint8 (height, width, 3)."""
    y, x, c = np.ogrid[:height, :width, :3]
    u = ((3 + 2 * s) * x + (7 + 4 * s) * y + ((x * y) >> (4 + s)) + 85 * c) % 512
    pixels: npt.NDArray[np.uint8] = np.where(u < 256, u, 511 - u).astype(np.uint8)
    return pixels
