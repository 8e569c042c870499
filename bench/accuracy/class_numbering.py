"""Checks whether the class numbers of a dataset are those of the model.

Numbers in a truth file or in the names of class folders may count from 1, or may be in another
order. The accuracy on such a dataset is near zero, but the predictions show how the numbers were
meant: most of them differ from the numbers in the data in the same way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

MIN_IMAGES = 10
"""Fewest images that must support another numbering."""

MIN_SHARE = 0.2
"""Smallest share of the images that must support another numbering."""

MIN_RATIO = 3
"""How many times more images must support another numbering than the one in the data."""


def check_class_numbering(
    truths: Sequence[Sequence[int]], predicted: Sequence[int | None], class_count: int
) -> tuple[str, ...]:
    """Check whether shifted or reordered class numbers fit the predictions far better.

    Args:
        truths: The correct class numbers of each image, as the data states them, each from 0 to
            `class_count` - 1. Images with several correct classes are not used.
        predicted: The class number of each image's predicted class; None if the image could not be
            read, -1 for a class without a number.
        class_count: Number of possible class numbers, which count from 0.

    Returns:
        One sentence in a tuple if another numbering fits far better, otherwise an empty tuple.
    """
    # The correct and the predicted class number of each image with a single correct class.
    pairs = [
        (truth[0], prediction)
        for truth, prediction in zip(truths, predicted)
        if len(truth) == 1 and prediction is not None
    ]
    if not pairs:
        return ()
    correct_count = sum(truth == prediction for truth, prediction in pairs)
    offset, offset_count = _find_best_offset(pairs)
    # A model that was trained on folders "0", "1", "10", "2", ..., sorted as text, predicts the
    # index of a folder in this order.
    order = sorted(range(class_count), key=str)
    index_of_number = {number: index for index, number in enumerate(order)}
    sorted_count = sum(index_of_number[truth] == prediction for truth, prediction in pairs)
    best_count = max(offset_count, sorted_count)
    has_enough_support = best_count >= max(MIN_IMAGES, MIN_SHARE * len(pairs))
    if not has_enough_support or best_count <= MIN_RATIO * correct_count:
        return ()
    if offset_count >= sorted_count:
        direction = "lower" if offset < 0 else "higher"
        numbering = f"numbers that are {abs(offset)} {direction}"
        remedy = "the data seems to count from 1" if offset == -1 else "check the numbering"
    else:
        numbering = "numbers in the order of their text (0, 1, 10, 100, ...)"
        remedy = "the model seems to be trained on folders that were sorted as text"
    total = len(pairs)
    return (
        f"the class numbers in the data may be wrong: {100 * correct_count / total:.2f}% of the"
        f" predictions agree with them, and {100 * best_count / total:.2f}% with {numbering};"
        f" {remedy}",
    )


def _find_best_offset(pairs: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the most frequent value of prediction minus truth except 0, and how often it occurs.

    If several values are equally frequent, the one closest to 0 is returned. If all differences are
    0, the result is (0, 0).
    """
    differences = Counter(prediction - truth for truth, prediction in pairs)
    del differences[0]  # A Counter allows this if there is no 0.
    if not differences:
        return 0, 0
    return min(differences.items(), key=_rank_offset)


def _rank_offset(item: tuple[int, int]) -> tuple[int, int]:
    """Return the sort key of (offset, count): frequent offsets first, then those close to 0."""
    offset, count = item
    return -count, abs(offset)
