"""Names under which training scripts store the normalization of their images.

All keys are compared in lower case, because configurations of yacs write them in upper case.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from tinyvit.nn.setting_values import find_first, is_vector

_PREFIXES = ("", "image_", "img_", "norm_", "normalize_", "pixel_", "dataset_")
MEAN_KEYS = tuple(f"{prefix}mean" for prefix in _PREFIXES)
"""Keys of the mean of each channel, the most important first."""

STD_KEYS = tuple(f"{prefix}std" for prefix in _PREFIXES)
"""Keys of the standard deviation of each channel, the most important first."""

STATS_KEY = "stats"
"""Key of a pair of a mean and a standard deviation, as in fastai."""

NORMALIZATION_KEYS = frozenset((*MEAN_KEYS, *STD_KEYS, STATS_KEY))

_MAX_ENTRIES = 2000
"""Limit of the entries that are read from a dict of an untrusted file."""


def lower_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dict with its keys in lower case; a key that is in lower case already wins.

    Args:
        values: The dict.
    """
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
    stats = values.get(STATS_KEY)
    if mean is not None or std is not None or not isinstance(stats, (list, tuple)):
        return mean, std
    is_pair = len(stats) == 2 and all(map(is_vector, stats))
    return (stats[0], stats[1]) if is_pair else (None, None)


def find_unknown_normalization(values: Mapping[str, Any]) -> dict[str, Any]:
    """Find the entries that may be a mean or a standard deviation, but whose keys are not known.

    Args:
        values: The dict, with keys as they are in the file.

    Returns:
        The entries with three numbers whose keys contain "mean" or "std".
    """
    return {
        str(key): value
        for key, value in islice(values.items(), _MAX_ENTRIES)
        if str(key).lower() not in NORMALIZATION_KEYS
        and any(word in str(key).lower() for word in ("mean", "std"))
        and is_vector(value)
    }
