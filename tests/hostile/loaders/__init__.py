"""All loaders of the campaign."""

from __future__ import annotations

from tests.hostile.hostile_files import Loader
from tests.hostile.loaders import (
    checkpoint_folders,
    label_files,
    onnx_files,
    torch_checkpoints,
    training_files,
)

LOADERS: tuple[Loader, ...] = (
    *onnx_files.LOADERS,
    *torch_checkpoints.LOADERS,
    *checkpoint_folders.LOADERS,
    *label_files.LOADERS,
    *training_files.LOADERS,
)
