"""What formats share that state the sizes of all tensors."""

from __future__ import annotations

import numpy as np
import pytest

from tinyvit.runtimes.formats.stated_operators import find_depth


@pytest.mark.parametrize("transposed", [False, True])
def test_the_depth_of_a_product_follows_from_its_sizes(transposed: bool) -> None:
    first, second = np.zeros((2, 5, 7)), np.zeros((2, 7, 3))
    result = (first @ second).shape
    stored = first.swapaxes(1, 2) if transposed else first
    assert find_depth(stored.shape, result) == 7


def test_vectors_and_numbers() -> None:
    assert find_depth((4,), (3,)) == 4
    assert find_depth((4,), ()) == 4
    assert find_depth((), ()) == 0
