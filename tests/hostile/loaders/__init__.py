"""All loaders of the campaign."""

from __future__ import annotations

from tests.hostile.hostile_files import Loader
from tests.hostile.loaders import onnx_files, records

LOADERS: tuple[Loader, ...] = (*onnx_files.LOADERS, *records.LOADERS)
