"""All loaders of the campaign."""

from __future__ import annotations

from tests.hostile.hostile_files import Loader
from tests.hostile.loaders import (
    coreml_packages,
    engine_files,
    onnx_files,
    openvino_files,
    ort_files,
    pte_files,
    tflite_files,
)

LOADERS: tuple[Loader, ...] = (
    *onnx_files.LOADERS,
    *ort_files.LOADERS,
    *openvino_files.LOADERS,
    *tflite_files.LOADERS,
    *pte_files.LOADERS,
    *coreml_packages.LOADERS,
    *engine_files.LOADERS,
)
