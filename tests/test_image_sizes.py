"""Image sizes at which TinyViT cannot run are refused with the possible ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tinyvit.errors import RequestError
from tinyvit.image_sizes import check_size


@pytest.mark.parametrize(
    ("size", "nearest"),
    [(225, "224 or 256"), (0, "32 or 64"), (-5, "32 or 64"), (1056, "1024")],
)
def test_nearest_sizes_are_suggested(size: int, nearest: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_size(size)
    assert caught.value.cause == f"TinyViT cannot run at {size} pixels"
    assert caught.value.remedy == f"use a multiple of 32, such as {nearest}"


@pytest.mark.parametrize("size", [224.0, "224", True, None, float("nan"), np.int64(224)])
def test_a_size_that_is_not_an_int_is_refused(size: Any) -> None:
    with pytest.raises(RequestError) as caught:
        check_size(size)
    assert caught.value.cause == f"the image size {size!r} is not an int"


@pytest.mark.parametrize("size", [32, 224, 1024])
def test_possible_sizes_are_accepted(size: int) -> None:
    check_size(size)
