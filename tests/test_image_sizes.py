"""Image sizes at which TinyViT cannot run are refused with the possible ones."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

import numpy as np
import pytest

from tinyvit.errors import RequestError
from tinyvit.image_sizes import (
    ImageSize,
    check_size,
    check_training_size,
    check_windows,
    compute_map_sizes,
    parse_size,
)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (31, "31"),
        (0, "0"),
        (-5, "-5"),
        (1025, "1025"),
        ((224, 16), "224 x 16"),
        ((0, 64), "0 x 64"),
    ],
)
def test_sizes_outside_the_limits_are_refused(size: ImageSize, text: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_size(size)
    assert caught.value.cause == f"TinyViT cannot run at {text} pixels"
    assert caught.value.remedy == "use a height and a width from 32 to 1024"


@pytest.mark.parametrize(
    "size",
    [
        224.0,
        "224",
        True,
        None,
        float("nan"),
        np.int64(224),
        (224,),
        (1, 2, 3),
        (224.0, 224),
        [3, 4],
    ],
)
def test_a_size_of_another_type_is_refused(size: Any) -> None:
    with pytest.raises(RequestError) as caught:
        check_size(size)
    assert caught.value.cause == (
        f"the image size {size!r} is neither an int nor a tuple (height, width) of ints"
    )


@pytest.mark.parametrize("size", [32, 65, 224, 1024, (320, 256), (33, 1024)])
def test_possible_sizes_are_accepted(size: ImageSize) -> None:
    check_size(size)


@pytest.mark.parametrize(
    ("size", "nearest"),
    [(225, "224 or 256"), (0, "32 or 64"), (-5, "32 or 64"), (1056, "1024")],
)
def test_nearest_sizes_are_suggested_for_training(size: int, nearest: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_training_size(size)
    assert caught.value.cause == f"TinyViT cannot be trained at {size} pixels"
    assert caught.value.remedy == f"use a multiple of 32, such as {nearest}"


@pytest.mark.parametrize(
    ("text", "size"),
    [("224", 224), ("320x256", (320, 256)), ("256X320", (256, 320)), ("288x288", 288)],
)
def test_an_option_states_one_side_or_height_and_width(text: str, size: ImageSize) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "224x", "3x224x224", "-224", "224.0", "big", "²"])
def test_an_option_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="give the side of a square"):
        parse_size(text)


def test_windows_are_scaled_only_to_squares_of_whole_windows() -> None:
    for size in (250, (320, 256)):
        with pytest.raises(RequestError, match="--windows scaled is not possible at"):
            check_windows("scaled", size)
        check_windows("checkpoint", size)
    check_windows("scaled", 256)


def test_feature_maps_round_up() -> None:
    assert compute_map_sizes(224) == ((56, 56), (28, 28), (14, 14), (7, 7))
    assert compute_map_sizes((250, 65)) == ((63, 17), (32, 9), (16, 5), (8, 3))
