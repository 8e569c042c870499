"""A comparison of two lists of predictions for the same images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyvit import Prediction


def predictions_agree(
    results: Sequence[list[Prediction]], expected: Sequence[list[Prediction]]
) -> bool:
    """Return whether all images get the same classes in the same order with nearly equal scores."""
    for actual, wanted in zip(results, expected, strict=True):
        if [item.index for item in actual] != [item.index for item in wanted]:
            return False
        if not np.allclose([item.score for item in actual], [item.score for item in wanted]):
            return False
    return True
