"""Names under which training scripts store the normalization of their images.

All keys are compared in lower case, because configurations of yacs write them in upper case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyvit.nn.checkpoints.preprocessing.normalization_modes import (
    RANGE_KEYS,
    find_mode,
    may_be_mode,
)
from tinyvit.nn.checkpoints.preprocessing.setting_values import (
    NAMED_NORMALIZATION,
    find_first,
    is_vector,
    list_entries,
)

_PREFIXES = ("", "image_", "img_", "norm_", "normalize_", "pixel_", "dataset_")
"""Texts before "mean" and "std" in the keys of the normalization, the most important first."""

MEAN_KEYS = tuple(f"{prefix}mean" for prefix in _PREFIXES)
"""Keys of the mean of each channel, the most important first."""

STD_KEYS = tuple(f"{prefix}std" for prefix in _PREFIXES)
"""Keys of the standard deviation of each channel, the most important first."""

STATS_KEYS = ("stats", "normalize", "normalization", "norm", "norm_stats", "mean_std")
"""Keys of a list of a mean and a standard deviation, as in fastai, or of the name of such a list,
for example "imagenet"."""

NORMALIZATION_KEYS = frozenset((*MEAN_KEYS, *STD_KEYS))
"""All keys of a mean or a standard deviation."""

_SWITCH_KEYS = ("normalize", "do_normalize", "normalization", "use_normalization")
"""Keys that tell whether images are normalized."""

_USUAL_RANGES = (None, False, True, [0, 1], 1 / 255)
"""Values of `RANGE_KEYS` for pixel values from 0 to 1."""


def lower_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the keys of a dict to lower case, and take values out of the dicts of W&B.

    Args:
        values: The dict. W&B writes each setting as a dict with a description:
            {"desc": None, "value": 0.5}.

    Returns:
        The values by lower-case keys. If several keys differ only in case, the one that is already
        in lower case has precedence.
    """
    values = {
        key: value["value"]
        if isinstance(value, Mapping) and {"value"} <= value.keys() <= {"desc", "value"}
        else value
        for key, value in values.items()
    }
    lowered = {str(key).lower(): value for key, value in values.items()}
    return {**lowered, **{key: value for key, value in values.items() if key in lowered}}


def find_normalization(values: Mapping[str, Any]) -> tuple[Any, Any]:
    """Find the mean and the standard deviation in a dict whose keys are in lower case.

    Args:
        values: The dict.

    Returns:
        Both values as they are in the dict; None for one that is missing.
    """
    mean, std = find_first(values, MEAN_KEYS), find_first(values, STD_KEYS)
    if mean is not None or std is not None:
        return mean, std
    for key in STATS_KEYS:
        stats = values.get(key)
        if isinstance(stats, str) and stats.lower() in NAMED_NORMALIZATION:
            return NAMED_NORMALIZATION[stats.lower()]
        if isinstance(stats, (list, tuple)) and len(stats) == 2 and all(map(is_vector, stats)):
            return stats[0], stats[1]
    return find_mode(values) or (None, None)


def find_unknown_normalization(values: Mapping[str, Any]) -> dict[str, Any]:
    """Find the entries that may be a mean or a standard deviation, but whose keys are not known.

    Args:
        values: The dict, with keys as they are in the file.

    Returns:
        The entries whose keys contain "mean" or "std" and whose values are three numbers; the
        entries that turn the normalization off, such as "normalize" with the value False, or that
        state another range of pixel values than 0 to 1, such as "input_range"; and the names of
        normalizations, known and unknown ones.
    """
    return {
        str(key): value
        for key, value in list_entries(values)
        if _concerns_normalization(str(key).lower(), value)
    }


def _concerns_normalization(key: str, value: Any) -> bool:
    """Return whether `find_unknown_normalization` returns an entry, whose key is in lower case."""
    return (
        _is_unknown_vector(key, value)
        or (value is False and key in _SWITCH_KEYS)
        or (key in RANGE_KEYS and value not in _USUAL_RANGES)
        or may_be_mode(key, value)
    )


def _is_unknown_vector(key: str, value: Any) -> bool:
    """Return whether an entry may be a mean or a standard deviation with an unknown key."""
    is_known = key in NORMALIZATION_KEYS
    return not is_known and ("mean" in key or "std" in key) and is_vector(value)
