"""Mixes a view with a view of another image, which is called the partner."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

_FULL_WEIGHT = 256
"""Weight of a view that is not blended. `blend_views` rounds each weight to a multiple of 1/256, so
that blending needs only integers, which give the same result on every machine."""


def blend_views(own: Pixels, partner: Pixels, own_fraction: float) -> tuple[Pixels, float]:
    """Blend two views (Mixup, Zhang et al., 2018).

    Args:
        own: A view of the image itself, uint8 (size, size, 3).
        partner: A view of the partner, of the same shape.
        own_fraction: Weight of `own`, 0 to 1.

    Returns:
        (pixels, own_fraction): the blended view, and the weight after rounding.
    """
    weight = round(_FULL_WEIGHT * own_fraction)
    total = own.astype(np.uint16) * weight + partner.astype(np.uint16) * (_FULL_WEIGHT - weight)
    return (total // _FULL_WEIGHT).astype(np.uint8), weight / _FULL_WEIGHT


def paste_box(
    own: Pixels, partner: Pixels, own_fraction: float, center: tuple[float, float]
) -> tuple[Pixels, float]:
    """Paste a box of the partner into a view, at the same place (CutMix, Yun et al., 2019).

    Args:
        own: A view of the image itself, uint8 (size, size, 3).
        partner: A view of the partner, of the same shape.
        own_fraction: Fraction of the view that the box should leave, 0 to 1.
        center: Center (x, y) of the box, as fractions of the size. Parts of the box outside the
            view are cut off.

    Returns:
        (pixels, own_fraction): the mixed view, and the fraction of it that is from `own`.
    """
    size = len(own)
    half_side = math.sqrt(1 - own_fraction) / 2
    left, right = _clip_edges(center[0], half_side, size)
    top, bottom = _clip_edges(center[1], half_side, size)
    mixed = own.copy()
    mixed[top:bottom, left:right] = partner[top:bottom, left:right]
    return mixed, 1 - (right - left) * (bottom - top) / size**2


def _clip_edges(center: float, half_side: float, size: int) -> tuple[int, int]:
    """Return the first pixel of the box along one axis, and the pixel after its last one."""
    first, end = (min(max(edge, 0), 1) for edge in (center - half_side, center + half_side))
    return round(size * first), round(size * end)
