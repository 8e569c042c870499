"""Notes about normalizations that no setting states, or that are stated under unknown keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyvit.nn.checkpoints.metadata.metadata_search import walk_dicts
from tinyvit.nn.checkpoints.metadata.settings_text import TextBudget
from tinyvit.nn.checkpoints.preprocessing.normalization_modes import read_mode
from tinyvit.nn.checkpoints.preprocessing.setting_keys import find_unknown_normalization
from tinyvit.nn.checkpoints.preprocessing.setting_values import shorten
from tinyvit.nn.checkpoints.preprocessing.transform_lists import read_transforms
from tinyvit.nn.checkpoints.state_dicts.layouts import join_first
from tinyvit.preprocess import Preprocess
from tinyvit.preprocess_settings import PreprocessSettings, PreprocessSource

_MAX_UNKNOWN = 4
"""Largest number of entries in the note about entries that are not used."""


def explain_unknown_normalization(
    metadata: Mapping[str, Any], preprocess: Preprocess
) -> tuple[str, ...]:
    """Explain entries that may be a mean or a standard deviation, but are not used.

    Args:
        metadata: All values in the file except the weights.
        preprocess: The preprocessing that is used.

    Returns:
        A note if there are such entries with other numbers than those used.
    """
    used_vectors = ([*preprocess.mean], [*preprocess.std], preprocess.mean, preprocess.std)
    unknown = [
        f"{f'{path}.' if path else ''}{key} {shorten(value)}"
        for path, values in walk_dicts(metadata)
        for key, value in find_unknown_normalization(values).items()
        if value not in used_vectors
        and read_mode(key.lower(), value) != (preprocess.mean, preprocess.std)
    ]
    if not unknown:
        return ()
    return (
        f"not used: {join_first(unknown, _MAX_UNKNOWN)} in the checkpoint, which may"
        " state how images are normalized (--mean and --std to use it)",
    )


def find_missing_normalization(metadata: Mapping[str, Any]) -> PreprocessSource | None:
    """Find transforms that resize or crop images and do not normalize them.

    The result holds only if no other source states a mean or a standard deviation: the training may
    normalize images outside of its transforms.

    Args:
        metadata: All values in the file except the weights.

    Returns:
        If the transforms make pixel values from 0 to 1, a source with the mean 0 and the standard
        deviation 1. For other transforms, which may be incomplete, a source with a note only. None
        if there are no such transforms.
    """
    budget = TextBudget()
    for path, values in walk_dicts(metadata):
        transforms = read_transforms(path, values, budget)
        if transforms.img_size is None or "mean" in {*transforms.values, *transforms.problems}:
            continue
        name = f"the transforms in {path}" if path else "the transforms in the checkpoint"
        if not transforms.divides_by_255:
            note = f"{name} state no normalization; the default mean and std are assumed"
            return PreprocessSource(name, notes=(note,))
        note = (
            f"{name} state no normalization, so the network is assumed to receive pixel values from"
            " 0 to 1 (--mean and --std for others)"
        )
        settings = PreprocessSettings(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        return PreprocessSource(name, settings, notes=(note,))
    return None
