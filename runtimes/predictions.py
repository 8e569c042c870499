"""Converts logits to predictions: the most probable classes, with their labels and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tinyvit.errors import RequestError
from tinyvit.labels import Label

Logits: TypeAlias = "npt.NDArray[np.float32]"


@dataclass(frozen=True)
class Prediction:
    """One predicted class of an image.

    Attributes:
        index: Index of the class in the logits.
        label: Name of the class.
        wnid: WordNet id such as "n02123045"; "" if the class is not an ImageNet class.
        score: Probability of the class, 0 to 1: the softmax of the logits.
    """

    index: int
    label: str
    wnid: str
    score: float


def check_top_k(top_k: int) -> None:
    """Check a number of predictions.

    Args:
        top_k: The number that the caller passed; a whole number of numpy is allowed.

    Raises:
        RequestError: It is not a whole number of at least 1.
    """
    if not isinstance(top_k, (int, np.integer)) or top_k < 1:
        raise RequestError(f"top_k={top_k!r} is not allowed", "give a whole number of at least 1")


def select_top_predictions(logits: Logits, labels: Sequence[Label], top_k: int) -> list[Prediction]:
    """Select the most probable classes of one image.

    Args:
        logits: Finite logits, (classes,).
        labels: One label for each class.
        top_k: Number of predictions.

    Returns:
        Predictions, the most probable class first: `top_k`, or one for each class if there are
        fewer classes. If two logits are equal, the lower index comes first.
    """
    scores = np.exp(logits.astype(np.float64) - logits.max())
    scores /= scores.sum()
    indices = np.argsort(-logits, kind="stable")[:top_k]
    return [
        Prediction(
            index=int(index),
            label=labels[index].name,
            wnid=labels[index].wnid,
            score=float(scores[index]),
        )
        for index in indices
    ]
