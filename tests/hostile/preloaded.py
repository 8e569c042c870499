"""Imports what children need, once, in the process from which they are forked."""

import contextlib
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tests.hostile.loaders  # noqa: F401 (children use it, as all below)
import tinyvit.runtimes.classifier
import tinyvit.runtimes.verify  # noqa: F401

with contextlib.suppress(ImportError):
    import matplotlib.figure  # noqa: F401
    import safetensors  # noqa: F401
    import yaml  # noqa: F401

with contextlib.suppress(ImportError):
    from tinyvit.privacy import hide_openvino_telemetry

    with hide_openvino_telemetry():
        import openvino  # noqa: F401
