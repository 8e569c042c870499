"""Imports what children need, once, in the process from which they are forked."""

import os
from contextlib import suppress
from importlib import import_module

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from PIL import Image

from tinyvit.privacy import hide_openvino_telemetry, use_temporary_caches

MODULES = (
    "tinyvit.runtimes.verify",
    "openvino",
    "ai_edge_litert.interpreter",
    "ai_edge_litert.schema_py_generated",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "onnx",
    "onnxruntime",
    "safetensors",
    "torch",
    "yaml",
    "tinyvit.bench.commands.latency",
    "tinyvit.bench.report.page",
    "tinyvit.distill.logits.convert",
    "tinyvit.bench.accuracy.hub",
    "tinyvit.bench.accuracy.suite",
    "tinyvit.quant.images.calibration_data",
    "tests.hostile.loaders",
)
"""Modules that take long to import. A package that is not installed is left out."""

Image.init()
for name in MODULES:
    with (
        suppress(ImportError, pytest.skip.Exception),
        use_temporary_caches(),
        hide_openvino_telemetry(),
    ):
        import_module(name)
with suppress(ImportError):
    from tinyvit.runtimes.engines._mil_program import import_coremltools

    import_coremltools()
with suppress(ImportError):
    from tinyvit.runtimes.engines.executorch import _import_portable_lib

    _import_portable_lib()
with suppress(ImportError, pytest.skip.Exception):
    from tests.hostile.small_artifact import read_small_artifact

    read_small_artifact()
