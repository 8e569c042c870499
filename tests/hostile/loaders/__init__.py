"""All loaders of the campaign."""

from __future__ import annotations

from tests.hostile.hostile_files import Loader
from tests.hostile.loaders import label_files, onnx_files, torch_checkpoints

LOADERS: tuple[Loader, ...] = (
    *onnx_files.LOADERS,
    *torch_checkpoints.LOADERS,
    *label_files.LOADERS,
)
