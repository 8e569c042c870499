"""Recognition of trainings that normalize each image with its own statistics.

Artifacts normalize all images with the same mean and standard deviation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tinyvit.nn.checkpoints.preprocessing.setting_values import is_vector, list_entries, shorten

PER_IMAGE_REASON = (
    "which normalizes each image with its own statistics, and artifacts normalize all images with"
    " the same mean and std"
)
"""Why such a normalization cannot be used, as the end of a clause."""

PER_IMAGE_TRANSFORM = re.compile(
    r"perimage|samplewise|zscore|standardi[sz]|instancenorm|min_?max|whiten|znormali[sz]"
    r"|normalizeintensity|rescaleintensity|^scaleintensityd?$"
)
"""Matches names of transforms that compute statistics of each image, in lower case and without
"_"."""

_MODE_KEY = re.compile(
    r"(?:image_|img_|input_)?norm(?:ali[sz]e|ali[sz]ation)?(?:_(?:type|mode|method))?"
)
"""Matches keys whose value is the name of a kind of normalization."""

_MODE = re.compile(
    r"image|(?:image|min_?max)_per_channel|min_?max|per_?image|sample(?:_?wise)?|per_?sample"
)
"""Matches the names of kinds of normalization with statistics of each image, with "_" for "-"."""

_VAGUE_MODE = re.compile(r"z_?score|standardi[sz]e|standardi[sz]ation")
"""Matches the names of kinds of normalization that use statistics of each image, unless a mean is
stated."""

_SWITCH_KEY = re.compile(
    r"(?=.*(?:norm|stand|center|std|whiten))(?:.*_)?(?:per_?(?:image|sample)|samplewise)(?:_.*)?"
)
"""Matches keys whose value True means a normalization with statistics of each image, such as
"samplewise_center" of Keras."""


def find_per_image_entries(values: Mapping[str, Any]) -> dict[str, Any]:
    """Find the entries of a dict that state a normalization with statistics of each image.

    Args:
        values: The dict. Its keys may be in upper or lower case.

    Returns:
        The entries, for example {"normalization": "image_per_channel"}.
    """
    entries = {str(key): value for key, value in list_entries(values)}
    has_mean = any("mean" in key.lower() and is_vector(value) for key, value in entries.items())
    return {
        key: value
        for key, value in entries.items()
        if _is_per_image(key.lower()[:80], value, has_mean)
    }


def find_per_image_problem(values: Mapping[str, Any]) -> str:
    """Explain why artifacts cannot normalize images as a dict of settings describes.

    Args:
        values: The settings, such as the arguments of a normalization.

    Returns:
        A clause; "" if the dict states no normalization with statistics of each image.
    """
    for key, value in find_per_image_entries(values).items():
        return f"{key[:80]} {shorten(value)}, {PER_IMAGE_REASON}"
    return ""


def _is_per_image(key: str, value: Any, has_mean: bool) -> bool:
    """Return whether an entry with a key in lower case states such a normalization."""
    if isinstance(value, str) and len(value) <= 80:
        mode = value.strip().lower().replace("-", "_").replace(" ", "_")
        is_mode = _MODE.fullmatch(mode) or (not has_mean and _VAGUE_MODE.fullmatch(mode))
        return bool(_MODE_KEY.fullmatch(key) and is_mode)
    return value is True and _SWITCH_KEY.fullmatch(key) is not None
