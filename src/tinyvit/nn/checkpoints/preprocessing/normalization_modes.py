"""Names of normalizations that scripts store instead of a mean and a standard deviation.

Examples are "divide_by_255", and the argument `mode` of Keras' function `preprocess_input`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tinyvit.nn.checkpoints.preprocessing.setting_values import NAMED_NORMALIZATION
from tinyvit.preprocess_settings import Channels

_Numbers = tuple[Channels, Channels]
"""A mean and a standard deviation of each RGB channel, for pixel values from 0 to 1."""

_FROM_0_TO_1: _Numbers = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_FROM_MINUS_1_TO_1 = NAMED_NORMALIZATION["inception"]

_NAMES_FROM_0_TO_1 = frozenset(
    (
        *("divideby255", "dividedby255", "divby255", "div255", "divide255", "by255", "1255", "255"),
        *("01", "0-1", "0to1", "zeroone", "zerotoone", "unit", "unitrange", "unitinterval"),
    )
)
"""Names, without all characters but letters, digits and "-", of a division by 255 alone."""

_NAMES_FROM_MINUS_1_TO_1 = frozenset(
    ("-11", "-1-1", "-1to1", "minus1to1", "minus11", "minusoneone", "minusonetoone", "negoneone")
)
"""Names, in the same form, of a scaling to values from -1 to 1."""

_KERAS_MODES = {"tf": _FROM_MINUS_1_TO_1, "torch": NAMED_NORMALIZATION["imagenet"]}
"""Maps modes of Keras' `preprocess_input` to the numbers that it uses. The mode "caffe" needs
images in BGR order, which `tinyvit.nn.checkpoints.preprocessing.channel_order` refuses."""

_NORMALIZE = r"(?:image_|img_|input_)?normali[sz](?:e|ation)"
_MODE_KEY = re.compile(
    rf"{_NORMALIZE}|(?:{_NORMALIZE}|norm|preprocess(?:ing)?)_(?:mode|type|method)"
)
"""Matches keys of the name of a normalization."""

_KERAS_KEY = re.compile(
    rf"{_NORMALIZE}|preprocess(?:ing|_input)?|(?:{_NORMALIZE}|preprocess(?:ing)?)_mode"
)
"""Matches keys of a mode of Keras. The key "mode" alone is one only for "tf" and "caffe"."""

RANGE_KEYS = ("input_range", "pixel_range", "value_range", "rescale")
"""Keys of the range of pixel values. A range from 0 to 1 is usual, and states no normalization."""

_LAYER = re.compile(
    r"(?:sync|frozen|layer|group|instance|batch|rms|weight|spectral|local|global)_?"
    r"(?:batch|response)?_?(?:norm(?:ali[sz]ation)?)?(?:1d|2d|3d)?|[bglir]n|sync_?bn|none|",
)
"""Matches names of layers of a network, which are not normalizations of images."""

_MAX_CHARACTERS = 40


def read_mode(key: str, value: Any) -> _Numbers | None:
    """Return the mean and the standard deviation that the name of a normalization stands for.

    Args:
        key: The key of an entry, in lower case.
        value: Its value.

    Returns:
        The numbers; None if the entry is no known name of a normalization.
    """
    if not isinstance(value, str) or len(value) > _MAX_CHARACTERS:
        return None
    text = value.strip().lower()
    if text in _KERAS_MODES and (_KERAS_KEY.fullmatch(key) or (key, text) == ("mode", "tf")):
        return _KERAS_MODES[text]
    name = re.sub(r"[^a-z0-9-]", "", text)
    if name in _NAMES_FROM_MINUS_1_TO_1 and (key in RANGE_KEYS or _MODE_KEY.fullmatch(key)):
        return _FROM_MINUS_1_TO_1
    if _MODE_KEY.fullmatch(key):
        if name in _NAMES_FROM_0_TO_1:
            return _FROM_0_TO_1
        return NAMED_NORMALIZATION.get(text)
    return None


def find_mode(values: Mapping[str, Any]) -> _Numbers | None:
    """Find the name of a normalization in a dict.

    Args:
        values: The dict, with keys in lower case.

    Returns:
        The mean and the standard deviation; None if the dict contains no known name.
    """
    for key, value in values.items():
        numbers = read_mode(key, value)
        if numbers is not None:
            return numbers
    return None


def is_bgr_mode(key: str, value: str) -> bool:
    """Return whether an entry is Keras' mode "caffe", which needs images in BGR order.

    Args:
        key: The key, in lower case.
        value: The value, in lower case.
    """
    return value == "caffe" and (key == "mode" or _KERAS_KEY.fullmatch(key) is not None)


def may_be_mode(key: str, value: Any) -> bool:
    """Return whether an entry is the name of a normalization, or may be one that is not known.

    Args:
        key: The key, in lower case.
        value: The value.
    """
    if read_mode(key, value) is not None:
        return True
    if not isinstance(value, str) or _MODE_KEY.fullmatch(key) is None:
        return False
    text = value[:_MAX_CHARACTERS].strip().lower()
    is_switch = text in ("true", "false", "yes", "no", "none")
    return not is_switch and _LAYER.fullmatch(text) is None
