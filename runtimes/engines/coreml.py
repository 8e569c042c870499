"""The engine Core ML: runs .mlpackage folders on Macs, on the CPU, the GPU or the Neural Engine.

The option `device` selects the compute units that Core ML may use. Core ML chooses one of them for
each operation and does not report its choice, so `describe` returns the allowed units.
"""

from __future__ import annotations

import platform
import sys
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinyvit.errors import RequestError
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Engine, Runtime, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.engine_helpers import (
    check_batch,
    closed_error,
    describe_unstated_precision,
    load_error,
    read_stated_precision,
    run_error,
)
from tinyvit.runtimes.engines._mil_program import import_coremltools, read_signature
from tinyvit.runtimes.engines._mil_types import ModelSignature
from tinyvit.runtimes.formats.coreml import COREML, find_model_file

_COMPUTE_UNITS = {"cpu": "CPU_ONLY", "gpu": "CPU_AND_GPU", "npu": "CPU_AND_NE"}
"""Maps a device to the name of a coremltools ComputeUnit."""


class CoreMLEngine(Engine):
    """Core ML, which is part of Apple's systems, called through coremltools."""

    name = "coreml"
    formats = (COREML,)
    package = "coremltools"
    extra = "coreml"

    def open(self, artifact: Artifact, options: RuntimeOptions) -> Runtime:
        """Open a package; see `Engine.open`."""
        if sys.platform != "darwin":
            raise RequestError(
                f"Core ML only exists on Apple's systems, and this system is {platform.system()}",
                "use --runtime coreml-reference to compute the logits here, or run the file on a "
                "Mac or an iPhone",
            )
        if options.threads is not None:
            raise RequestError(
                "Core ML chooses its number of threads itself", "leave --threads out"
            )
        precision = read_stated_precision(artifact, options, "Core ML")
        units = _COMPUTE_UNITS.get(options.device.lower(), options.device.upper())
        if units not in _COMPUTE_UNITS.values():
            raise RequestError(
                f"Core ML has no device {options.device!r}", f"it has {', '.join(_COMPUTE_UNITS)}"
            )
        coremltools, path = import_coremltools(), artifact.path
        find_model_file(path)  # Called for its check: an incomplete package is an error.
        try:
            model = coremltools.models.MLModel(
                str(path), compute_units=coremltools.ComputeUnit[units]
            )
            signature = read_signature(model.get_spec().description)
        except (RuntimeError, ValueError, OSError) as error:
            raise load_error(path, "Core ML", error) from error
        info = RuntimeInfo(
            engine=self.name,
            version=f"{platform.mac_ver()[0]}, coremltools {coremltools.__version__}",
            device=units,
            threads=None,
            precision=precision or describe_unstated_precision(signature.outputs),
        )
        return _CoreMLRuntime(model, signature, info)


ENGINE = CoreMLEngine()


class _CoreMLRuntime(Runtime):
    """A loaded MLModel. A lock admits one thread at a time, as Apple requires."""

    def __init__(self, model: Any, signature: ModelSignature, info: RuntimeInfo) -> None:
        self.inputs, self.outputs = (signature.input,), signature.outputs
        self._model, self._info = model, info
        self._is_image = signature.is_image
        self._lock = Lock()

    def run_outputs(self, batch: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        """Run the network; see `Runtime.run_outputs`."""
        model = self._model
        if model is None:
            raise closed_error()
        check_batch(batch, self.inputs)
        model_input = Image.fromarray(batch[0]) if self._is_image else np.ascontiguousarray(batch)
        try:
            with self._lock:
                outputs = model.predict({self.inputs[0].name: model_input})
        except (RuntimeError, ValueError, TypeError) as error:
            raise run_error("Core ML", error) from error
        return tuple(np.array(outputs[spec.name], np.float32) for spec in self.outputs)

    def describe(self) -> RuntimeInfo:
        """Return the engine, device, threads and precision in use; see `Runtime.describe`."""
        return self._info

    def close(self) -> None:
        """Release the model; see `Runtime.close`."""
        self._model = None
