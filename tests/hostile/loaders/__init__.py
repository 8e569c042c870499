"""All loaders of the campaign."""

from __future__ import annotations

from tests.hostile.hostile_files import Loader
from tests.hostile.loaders import (
    calibration_sources,
    datasets,
    image_files,
    onnx_files,
    openvino_files,
    ort_files,
    truth_files,
)

LOADERS: tuple[Loader, ...] = (
    *onnx_files.LOADERS,
    *ort_files.LOADERS,
    *openvino_files.LOADERS,
    *image_files.LOADERS,
    *datasets.LOADERS,
    *truth_files.LOADERS,
    *calibration_sources.LOADERS,
)
