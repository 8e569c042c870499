"""Recognition of trainings whose images were not in RGB.

Artifacts give the network RGB images. A network that was trained with images in BGR order (as
OpenCV reads them) or in another color space needs other images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tinyvit.nn.checkpoints.preprocessing.normalization_modes import is_bgr_mode
from tinyvit.nn.checkpoints.preprocessing.setting_values import list_entries

_BGR_SWITCH = re.compile(
    r"(?:(?:is|use|to|as|convert|convert_to)_?)?bgr(?:_images?|_input|_order|_mode)?"
    r"|(?:do_)?(?:swap|flip|reverse)_?(?:rb|rgb|channels?|channels?_order)|rgb_?(?:to|2)_?bgr"
)
"""Matches keys whose value True means that the network receives images in BGR order."""

_RGB_SWITCH = re.compile(
    r"(?:(?:is|use|to|as|convert|convert_to)_?)?rgb(?:_images?|_input|_order|_mode)?"
    r"|bgr_?(?:to|2)_?rgb"
)
"""Matches keys whose value False means that the network does not receive RGB images."""

_SPACES = re.compile(r"bgr|hsv|hls|lab|cielab|luv|ycbcr|ycrcb|yuv|xyz", re.IGNORECASE)
"""Matches the names of channel orders and color spaces that artifacts do not offer."""

_SPACE_KEY = re.compile(r"colou?r|channel|space|format|mode|order|input")
"""Matches a part of the keys whose value is the name of a color space. A value "bgr" is one under
every key; other names, such as "lab", may also mean something else."""

_SWAP_KEY = re.compile(r"channel|swap|order")
"""Matches a part of the keys whose value may be the order of the channels as indices."""

_BGR_TRANSFORM = re.compile(
    r"rgb(?:2|to)bgr|(?:to|convertto|convert)?bgr"
    r"|(?:swap|flip|reverse)(?:rb|rgb|channels?|channelsorder|channelorder)|channel(?:flip|swap)"
)
"""Matches names of transforms that put images into BGR order, in lower case and without "_"."""

_SPACE_TRANSFORM = re.compile(rf"(?:(?:rgb|bgr)(?:2|to)|to|convertto)(?:{_SPACES.pattern})")
"""Matches names of transforms that convert images to another color space, in the same form."""


def find_channel_entries(values: Mapping[str, Any]) -> dict[str, Any]:
    """Find the entries of a dict which say that images are not in RGB.

    Args:
        values: The dict. Its keys may be in upper or lower case.

    Returns:
        The entries, for example {"to_rgb": False} or {"color_mode": "BGR"}.
    """
    # A step such as LoadImageFromFile states only how it reads files. Later steps may convert the
    # images before they reach the network.
    if str(values.get("type")).startswith("Load"):
        return {}
    return {
        str(key): value
        for key, value in list_entries(values)
        if _is_other_than_rgb(str(key).lower(), value)
    }


def find_channel_problem(values: Mapping[str, Any]) -> str:
    """Explain why artifacts cannot give a network the images that a dict of settings describes.

    Args:
        values: The settings, such as the arguments of a normalization.

    Returns:
        A clause; "" for RGB images, and if the dict does not state the order of the channels.
    """
    entries = find_channel_entries(values)
    if not entries:
        return ""
    key, value = next(iter(entries.items()))
    return make_channel_problem(f"{key[:40]} {str(value)[:20]}")


def make_channel_problem(statement: str) -> str:
    """Return the clause with which a network of images that are not in RGB is refused.

    Args:
        statement: The setting or the transform which says so, such as "to_rgb False".
    """
    name = statement.rpartition(" ")[2]
    if "bgr" not in statement.lower() and _SPACES.search(name):
        return f"{statement}: images that are not in RGB, and artifacts give the network RGB images"
    return (
        f"{statement}: images in BGR order, and artifacts give the network RGB images (reverse the"
        " input channels of its first convolution, and give --mean and --std in RGB order)"
    )


def converts_from_rgb(name: str) -> bool:
    """Return whether the name of a transform says that it converts RGB images to other channels.

    Args:
        name: The name in lower case and without "_", such as "rgb2bgr".
    """
    return bool(_BGR_TRANSFORM.fullmatch(name) or _SPACE_TRANSFORM.match(name))


def _is_other_than_rgb(key: str, value: Any) -> bool:
    """Return whether an entry with a key in lower case says that images are not in RGB."""
    if isinstance(value, str):
        text = value[:40].strip().lower()
        if text in ("true", "false"):
            return _is_other_than_rgb(key, text == "true")
        is_space = _SPACES.fullmatch(text) and _SPACE_KEY.search(key)
        return text == "bgr" or bool(is_space) or is_bgr_mode(key, text)
    if isinstance(value, bool):
        switch = _BGR_SWITCH if value else _RGB_SWITCH
        return switch.fullmatch(key) is not None
    is_order = isinstance(value, (list, tuple)) and list(value) == [2, 1, 0]
    return is_order and _SWAP_KEY.search(key) is not None
