"""Reads single values of preprocessing settings in the forms in which training scripts write them.

The `read_` functions give None for a value that states nothing. If a value cannot be used,
`read_image_side` gives None, too, and the other `read_` functions raise ValueError, whose text is a
clause for a message.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tinyvit.image_sizes import ImageSize, height_and_width
from tinyvit.preprocess import (
    FILTER_NAMES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Interpolation,
    divide_size,
)
from tinyvit.preprocess_settings import Channels, is_number

_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

NAMED_NORMALIZATION = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip": _CLIP,
    "openai": _CLIP,
    "openai_clip": _CLIP,
}
"""Mean and standard deviation by the name that some scripts store instead of the numbers."""

_FILTER_ALIASES: dict[str, Interpolation] = {
    "linear": "bilinear",
    "cubic": "bicubic",
    "lanczos3": "lanczos",
    "antialias": "lanczos",
    # Pillow's numbers of the filters, which transformers and DeiT store.
    "1": "lanczos",
    "2": "bilinear",
    "3": "bicubic",
}

_MAX_INITIAL_STD = 0.05
"""Largest usual standard deviation of initial weights, which have a mean of 0. The pixels of a data
set have a larger standard deviation, and their mean is not 0."""

_MAX_SIDE = 8192
"""Larger sides of images, in pixels, are not taken for image sizes."""

_MAX_ENTRIES = 2000
"""Limit of the entries that are read from a dict of an untrusted file."""

_SHORT_REPR = reprlib.Repr()
# Nested lists of a hostile file may have a representation of any length.
_SHORT_REPR.maxlevel, _SHORT_REPR.maxstring = 2, 40


@dataclass(frozen=True)
class Normalization:
    """A mean and a standard deviation for pixel values from 0 to 1.

    Attributes:
        mean: Mean of each RGB channel; None if it is not stated.
        std: Standard deviation of each RGB channel; None if it is not stated.
        is_scaled: Whether they were stated for pixel values from 0 to 255.
    """

    mean: Channels | None = None
    std: Channels | None = None
    is_scaled: bool = False


def find_first(values: Mapping[str, Any], keys: Iterable[str]) -> Any:
    """Return the first value that is neither missing, None nor an empty string."""
    for key in keys:
        if values.get(key) is not None and values[key] != "":
            return values[key]
    return None


def list_entries(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the first 2000 entries of a dict, which may come from an untrusted file."""
    return list(islice(values.items(), _MAX_ENTRIES))


def shorten(value: object) -> str:
    """Return the representation of a value from an untrusted file, at most about 60 characters."""
    return _SHORT_REPR.repr(value)[:60]


def is_vector(value: Any) -> bool:
    """Return whether a value is a list, tuple or text of three numbers, one per RGB channel."""
    try:
        return isinstance(value, (list, tuple, str)) and len(_flatten(value)) == 3
    except ValueError:
        return False


def read_normalization(mean: Any, std: Any) -> Normalization:
    """Read a mean and a standard deviation, for pixel values from 0 to 1 or from 0 to 255.

    Args:
        mean: Three numbers or one, in a list, nested lists or a text; or a name such as
            "imagenet"; or None.
        std: The standard deviation, in one of the same forms.

    Returns:
        The numbers for pixel values from 0 to 1. Both are None if the arguments are those of an
        initialization of weights, such as a mean of 0 and a standard deviation of 0.02.

    Raises:
        ValueError: A mean or standard deviation is neither three numbers nor one, is not possible
            for pixel values, or it is not clear for which range of pixel values it is.
    """
    for name in (mean, std):
        if isinstance(name, str) and name.lower() in NAMED_NORMALIZATION:
            return Normalization(*NAMED_NORMALIZATION[name.lower()])
    if _is_initialization(mean, std):
        return Normalization()
    mean_values, std_values = _read_channels("mean", mean), _read_channels("std", std)
    means, stds = mean_values or (), std_values or ()
    text = " and ".join(
        f"{name} {shorten(value)}"
        for name, value in (("mean", mean), ("std", std))
        if value is not None
    )
    if any(value <= 0 for value in stds) or any(not 0 <= value <= 255 for value in means):
        raise ValueError(f"{text}, which is not possible for pixel values")
    is_small = all(value <= 1 for value in (*means, *stds))
    if is_small:
        return Normalization(mean_values, std_values)
    is_large = all(value >= 1 for value in stds) and all(value > 1 or value == 0 for value in means)
    if not is_large:
        raise ValueError(f"{text}, which mixes pixel values from 0 to 1 and from 0 to 255")
    return Normalization(_divide_by_255(mean_values), _divide_by_255(std_values), is_scaled=True)


def is_for_255(mean: Any, std: Any) -> bool:
    """Return whether a mean and a standard deviation are for pixel values from 0 to 255.

    Args:
        mean: The mean in one of the forms that `read_normalization` reads.
        std: The standard deviation.

    Returns:
        False also if they cannot be used.
    """
    try:
        return read_normalization(mean, std).is_scaled
    except ValueError:
        return False


def _is_initialization(mean: Any, std: Any) -> bool:
    """Return whether two numbers are those of the initialization of weights, not of images."""
    is_pair = is_number(mean) and is_number(std)
    return is_pair and mean == 0 and 0 < std <= _MAX_INITIAL_STD


def read_interpolation(value: Any) -> Interpolation | None:
    """Read the name or the number of a resampling filter, such as "bicubic" or Pillow's 3."""
    if value is None or value == "":
        return None
    text = str(value)[:80] if isinstance(value, (str, int)) else ""
    text = text.strip().lower().rpartition(".")[2]
    for name in FILTER_NAMES:
        if text == name:
            return name  # type: ignore[return-value]  # the names are those of the Literal
    if text in _FILTER_ALIASES:
        return _FILTER_ALIASES[text]
    raise ValueError(
        f"interpolation {shorten(value)}, which artifacts do not offer"
        f" (they offer {', '.join(FILTER_NAMES)})"
    )


def read_crop_pct(value: Any) -> float | None:
    """Read timm's crop_pct: side of the input divided by the length after resizing."""
    if value is None or value == 0:
        return None
    if not is_number(value) or not 0.1 <= value <= 1:
        raise ValueError(f"crop_pct {shorten(value)}, and artifacts offer 0.1 to 1")
    return float(value)


def make_crop_pct(size: ImageSize, resize: ImageSize) -> float:
    """Return the crop_pct with which an image is resized to exactly `resize` pixels.

    Args:
        size: Size of the network's input in pixels.
        resize: Size after resizing in pixels, at least `size`.

    Returns:
        A number for which `divide_size(size, number)` is `resize`. If no number gives both lengths,
        that of the height.
    """
    ratios = [
        side / resized for side, resized in zip(height_and_width(size), height_and_width(resize))
    ]
    # The division can give slightly less than `resize`, which would be rounded down.
    candidates = [*ratios, *(math.nextafter(ratio, 0) for ratio in ratios)]
    exact = [number for number in candidates if divide_size(size, number) == resize]
    return exact[0] if exact else ratios[0]


def read_image_side(value: Any) -> int | None:
    """Read the side of square images in pixels, from a number, a shape, or a dict.

    Args:
        value: The number, shape or dict, such as 224, "224", (224, 224), (3, 224, 224),
            {"height": 224, "width": 224} or {"shortest_edge": 256}.

    Returns:
        The side; None if the value is no size, the size of images that are not square, or larger
        than 8192.
    """
    if isinstance(value, Mapping):
        value = [value[key] for key in ("shortest_edge", "height", "width") if key in value]
    if isinstance(value, str) and value.isdecimal():
        value = int(value[:6])
    sides = list(value)[-2:] if isinstance(value, (list, tuple)) else [value]
    if not sides or not all(is_number(side) and side == sides[0] for side in sides):
        return None
    return int(sides[0]) if 1 <= sides[0] <= _MAX_SIDE else None


def _read_channels(name: str, value: Any) -> Channels | None:
    """Read three numbers, or one number for all channels, as in timm.

    Raises:
        ValueError: The value is something else. The text begins with `name`.
    """
    if value is None or value == []:
        return None
    try:
        numbers = _flatten(value)
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3:
        raise ValueError(f"{name} {shorten(value)}, which is not three numbers")
    return numbers[0], numbers[1], numbers[2]


def _flatten(value: Any, depth: int = 0) -> list[float]:
    """Return the first five numbers at most in a number, a text or nested lists.

    The callers refuse more than three numbers, so further numbers need not be read.

    Raises:
        ValueError: The value is something else.
    """
    if isinstance(value, str):
        value = [float(part) for part in re.split(r"[\s,;/]+", value[:200].strip("()[] "))]
    if is_number(value):
        return [float(value)]
    if not isinstance(value, (list, tuple)) or depth > 4:
        raise ValueError("it is not a list of numbers")
    numbers: list[float] = []
    for entry in value[:5]:
        numbers += _flatten(entry, depth + 1)
    return numbers[:5]


def _divide_by_255(values: Channels | None) -> Channels | None:
    """Convert numbers for pixel values from 0 to 255 to numbers for pixel values from 0 to 1."""
    if values is None:
        return None
    return values[0] / 255, values[1] / 255, values[2] / 255
