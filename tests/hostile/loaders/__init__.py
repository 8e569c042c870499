"""All loaders of the campaign."""

from __future__ import annotations

from tests.hostile.hostile_files import Loader
from tests.hostile.loaders import engine_files, onnx_files, tflite_files

LOADERS: tuple[Loader, ...] = (
    *onnx_files.LOADERS,
    *tflite_files.LOADERS,
    *engine_files.LOADERS,
)
