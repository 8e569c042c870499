"""Imports what children need, once, in the process from which they are forked."""

import contextlib
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tinyvit.runtimes.classifier
import tinyvit.runtimes.verify  # noqa: F401

with contextlib.suppress(ImportError):
    from tinyvit.privacy import hide_openvino_telemetry

    with hide_openvino_telemetry():
        import openvino  # noqa: F401
with contextlib.suppress(ImportError):
    import ai_edge_litert.interpreter
    import ai_edge_litert.schema_py_generated  # noqa: F401
with contextlib.suppress(ImportError):
    from tinyvit.runtimes.engines._mil_program import import_coremltools

    import_coremltools()
with contextlib.suppress(ImportError):
    from tinyvit.runtimes.engines.executorch import _import_portable_lib

    _import_portable_lib()
