"""Core ML: opens .mlpackage folders on Macs, on the processor, the GPU or the Neural Engine.

Core ML decides by itself where an operation runs, within the units that it is allowed; describe() says which those are.
"""

from __future__ import annotations

import platform
import sys
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import RequestError
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import (
    Runtime,
    RuntimeOptions,
    check_batch,
    closed_error,
    load_error,
    run_error,
    stated_precision,
)
from tinyvit.runtimes.engines._mil_program import Features, features, sdk
from tinyvit.runtimes.formats import Format
from tinyvit.runtimes.formats.coreml import COREML, model_file

FORMATS: tuple[Format, ...] = (COREML,)
PACKAGE = "coremltools"
EXTRA = "coreml"

_UNITS = {"cpu": "CPU_ONLY", "gpu": "CPU_AND_GPU", "npu": "CPU_AND_NE"}


def open_runtime(artifact: Artifact, options: RuntimeOptions) -> Runtime:
    """Open a package; raises RequestError off Apple's systems and for what Core ML lets nobody choose, ArtifactError as it refuses."""
    if sys.platform != "darwin":
        remedy = "use --runtime coreml-reference to compute what the file says, or run it on a Mac or an iPhone"
        raise RequestError(
            f"Core ML is part of Apple's systems, and this is {platform.system()}", remedy
        )
    if options.threads is not None:
        raise RequestError("Core ML chooses its threads itself", "leave --threads out")
    stated = stated_precision(artifact, options, "Core ML")
    units = _UNITS.get(options.device.lower(), options.device.upper())
    if units not in _UNITS.values():
        raise RequestError(
            f"Core ML has no device {options.device!r}", f"it has {', '.join(_UNITS)}"
        )
    ct, path = sdk(), artifact.path
    model_file(path)
    try:
        model = ct.models.MLModel(str(path), compute_units=ct.ComputeUnit[units])
        ends = features(model.get_spec().description)
    except (RuntimeError, ValueError, OSError) as error:
        raise load_error(path, "Core ML", error) from error
    return _CoreMlRuntime(
        model, ends, units, stated, f"{platform.mac_ver()[0]}, coremltools {ct.__version__}"
    )


class _CoreMlRuntime(Runtime):
    def __init__(self, model: Any, ends: Features, units: str, stated: str, version: str) -> None:
        self.inputs, self.outputs = (ends.input,), (ends.output,)
        self._model, self._is_image, self._lock = model, ends.is_image, Lock()
        self._facts: dict[str, str | int] = {
            "engine": "coreml",
            "version": version,
            "device": units,
            "threads": "engine default",
            "precision": stated or "unstated (float32 output)",
        }

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        from PIL import Image

        model = self._model
        if model is None:
            raise closed_error()
        check_batch(batch, self.inputs)
        value = Image.fromarray(batch[0]) if self._is_image else np.ascontiguousarray(batch)
        try:
            with self._lock:  # Apple: use an MLModel instance on one thread at a time
                answer = model.predict({self.inputs[0].name: value})
        except (RuntimeError, ValueError, TypeError) as error:
            raise run_error("Core ML", error) from error
        return np.array(answer[self.outputs[0].name], np.float32)

    def describe(self) -> dict[str, str | int]:
        return dict(self._facts)

    def close(self) -> None:
        self._model = None
