"""Interprets the names of models in command lines: the path of an exported file, or "demo"."""

from __future__ import annotations

import os

from tinyvit.progress import NullProgress, Progress
from tinyvit.runtimes.pretrained import export_released
from tinyvit.variants import DEMO_MODEL


def resolve_model(model: str, progress: Progress = NullProgress()) -> str:
    """Return the path of an exported file; for "demo", export the demo model unless it exists.

    Args:
        model: The argument of the user. A file or folder that is called "demo" is used itself.
        progress: Receives a message if the demo model is exported, which takes half a minute.

    Returns:
        The path. Whether the file exists is not checked.

    Raises:
        MissingDependencyError: The demo model has to be exported, and the extra "export" is not
            installed.
        CheckpointError: The export fails.
    """
    if model != DEMO_MODEL or os.path.exists(model):
        return model
    return str(export_released(DEMO_MODEL, progress))
