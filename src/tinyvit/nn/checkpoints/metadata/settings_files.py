"""Settings of a training that are texts in a checkpoint, or in files beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyvit.files.file_io import read_text
from tinyvit.nn.checkpoints.metadata.settings_text import (
    MAX_SETTINGS_LENGTH,
    TextBudget,
    parse_settings_text,
)
from tinyvit.nn.checkpoints.weight_folders import find_settings_folder

TRAINING_ARGUMENTS = ("args", "hyper_parameters", "hparams", "config", "cfg", "opt", "options")
"""Keys under which training scripts store their arguments, the most important first."""

SETTINGS_FILES = ("args.yaml", "args.yml", "args.json", "hparams.yaml")
"""Names of files with the arguments of a training. timm's train.py writes the first into the folder
of its checkpoints, Lightning's loggers the last."""

_TEXT_KEYS = (
    *TRAINING_ARGUMENTS,
    "transform",
    "transforms",
    "val_transform",
    "val_transforms",
    "test_transform",
    "test_transforms",
    "eval_transform",
    "preprocess",
)
"""Keys whose values may be settings in the form of a text."""


def expand_settings_texts(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Parse settings that are stored as text, such as `meta.cfg` of MMEngine.

    Args:
        metadata: All values in a checkpoint file except the weights.

    Returns:
        The same values, in which every text with settings is replaced by a dict of them. Further
        texts stay as they are if those before them are too long together.
    """
    budget = TextBudget()
    expanded = _expand(metadata, budget)
    for key in ("meta", *TRAINING_ARGUMENTS):
        if isinstance(expanded.get(key), Mapping):
            expanded[key] = _expand(expanded[key], budget)
    return expanded


def read_settings_files(path: Path) -> dict[str, dict[str, Any] | None]:
    """Read the files with the arguments of a training in the folder of a checkpoint.

    Args:
        path: A checkpoint file or its folder.

    Returns:
        For each file that exists, by its name: its settings, or None if the file is too large or
        is not understood.
    """
    folder = find_settings_folder(path)
    files = [folder / name for name in SETTINGS_FILES]
    return {file.name: _read_settings_file(file) for file in files if file.is_file()}


def _read_settings_file(file: Path) -> dict[str, Any] | None:
    """Return the settings in a file; None if it is too large or is not understood."""
    try:
        return parse_settings_text(read_text(file, MAX_SETTINGS_LENGTH))
    except (OSError, ValueError):
        return None


def _expand(values: Mapping[str, Any], budget: TextBudget) -> dict[str, Any]:
    """Return a dict in which the texts with settings under `_TEXT_KEYS` are replaced by dicts."""
    return {
        key: _expand_value(value, budget) if key in _TEXT_KEYS else value
        for key, value in values.items()
    }


def _expand_value(value: Any, budget: TextBudget) -> Any:
    """Return the settings in a text as a dict; return any other value unchanged."""
    is_read = isinstance(value, str) and budget.allows(value)
    content = parse_settings_text(value) if is_read else None
    return value if content is None else content
