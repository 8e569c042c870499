"""Comparing predictions of the same images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyvit import Prediction


def predictions_agree(
    results: Sequence[list[Prediction]], expected: Sequence[list[Prediction]]
) -> bool:
    """Return whether all images get the same classes in the same order with nearly equal scores."""
    return all(
        [prediction.index for prediction in result] == [prediction.index for prediction in wanted]
        and np.allclose(
            [prediction.score for prediction in result], [prediction.score for prediction in wanted]
        )
        for result, wanted in zip(results, expected, strict=True)
    )
