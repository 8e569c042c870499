"""Mixes the view of an image with the view of a second image, which is called the partner."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

_WEIGHT_UNITS = 256
"""Number of units in the weight 1. `blend_views` rounds weights to whole units and computes with
integers, because integer arithmetic gives the same result on every machine."""


def blend_views(own: Pixels, partner: Pixels, own_fraction: float) -> tuple[Pixels, float]:
    """Blend two views (Mixup, Zhang et al., 2018).

    Args:
        own: The view of the image itself, uint8 (size, size, 3).
        partner: The view of the partner, of the same shape.
        own_fraction: Weight of `own`, 0 to 1.

    Returns:
        (pixels, own_fraction): the blended view, and the weight of `own` after rounding.
    """
    own_units = round(_WEIGHT_UNITS * own_fraction)
    partner_units = _WEIGHT_UNITS - own_units
    total = own.astype(np.uint16) * own_units + partner.astype(np.uint16) * partner_units
    return (total // _WEIGHT_UNITS).astype(np.uint8), own_units / _WEIGHT_UNITS


def paste_box(
    own: Pixels, partner: Pixels, own_fraction: float, center: tuple[float, float]
) -> tuple[Pixels, float]:
    """Paste a box of the partner's view into the image's view (CutMix, Yun et al., 2019).

    The box has the same position in both views.

    Args:
        own: The view of the image itself, uint8 (size, size, 3).
        partner: The view of the partner, of the same shape.
        own_fraction: Fraction of `own` that the whole box would leave uncovered, 0 to 1.
        center: Center (x, y) of the box, as fractions of the view's size. Parts of the box outside
            the view are cut off.

    Returns:
        (pixels, own_fraction): the mixed view, and the fraction of it that really is from `own`.
    """
    size = len(own)
    half_side = math.sqrt(1 - own_fraction) / 2
    left, right = _clip_edges(center[0], half_side, size)
    top, bottom = _clip_edges(center[1], half_side, size)
    mixed = own.copy()
    mixed[top:bottom, left:right] = partner[top:bottom, left:right]
    return mixed, 1 - (right - left) * (bottom - top) / size**2


def _clip_edges(center: float, half_side: float, size: int) -> tuple[int, int]:
    """Return the first pixel of the box along one axis, and the pixel after the last one.

    `center` and `half_side` are fractions of the view's size, which is `size` pixels.
    """
    start, end = (min(max(edge, 0), 1) for edge in (center - half_side, center + half_side))
    return round(size * start), round(size * end)
