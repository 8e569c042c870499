"""Settings of a training that are texts in a checkpoint, or in files beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyvit.nn.settings_text import MAX_SETTINGS_LENGTH, parse_settings_text

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
        The same values, in which every text with settings is replaced by a dict of them.
    """
    expanded = _expand(metadata)
    for key in ("meta", *TRAINING_ARGUMENTS):
        if isinstance(expanded.get(key), Mapping):
            expanded[key] = _expand(expanded[key])
    return expanded


def read_settings_files(path: Path) -> dict[str, dict[str, Any]]:
    """Read the files with the arguments of a training in the folder of a checkpoint.

    Args:
        path: A checkpoint file or its folder.

    Returns:
        The settings in each file that can be read, by the name of the file.
    """
    folder = path if path.is_dir() else path.parent
    settings: dict[str, dict[str, Any]] = {}
    for name in SETTINGS_FILES:
        try:
            if (folder / name).is_file() and (folder / name).stat().st_size <= MAX_SETTINGS_LENGTH:
                content = parse_settings_text((folder / name).read_text("utf-8"))
                if content is not None:
                    settings[name] = content
        except (OSError, ValueError):
            continue
    return settings


def _expand(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dict in which the texts with settings under `_TEXT_KEYS` are replaced by dicts."""
    return {
        key: _expand_value(value) if key in _TEXT_KEYS else value for key, value in values.items()
    }


def _expand_value(value: Any) -> Any:
    """Return the settings in a text as a dict; return any other value unchanged."""
    content = parse_settings_text(value) if isinstance(value, str) else None
    return value if content is None else content
