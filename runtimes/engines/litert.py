"""LiteRT: runs .tflite files on CPUs, with XNNPACK's kernels if possible, otherwise with its own.

Neither delegates nor custom operators are loaded from libraries. The interpreter uses the offsets
and indices in a file without checking them, so a damaged file could crash the process. The whole
file is therefore checked first (_tflite.py).
"""

from __future__ import annotations

import threading
from importlib import metadata
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.manifest import TensorSpec
from tinyvit.output_capture import silence_file_descriptors
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import (
    Engine,
    Runtime,
    RuntimeInfo,
    RuntimeOptions,
    check_batch,
    check_precision,
    closed_error,
    load_error,
    make_tensor_spec,
    physical_cores,
    run_error,
)
from tinyvit.runtimes.engines import _tflite
from tinyvit.runtimes.formats.trailer import TrailerFormat


class LiteRTEngine(Engine):
    """LiteRT, the successor of TensorFlow Lite, on the CPU."""

    name = "litert"
    formats = (TrailerFormat("litert", ".tflite", b"TFL3", magic_offset=4),)
    package = "ai_edge_litert"
    extra = "litert"

    def open(self, artifact: Artifact, options: RuntimeOptions) -> Runtime:
        """Open a .tflite file; see `Engine.open`."""
        library = _import_litert()
        if options.device.lower() != "cpu":
            raise RequestError(
                f"LiteRT has no device {options.device!r} here",
                "use --device cpu, or run the file in an app that brings its own delegate",
            )
        precision = check_precision(artifact, options, "LiteRT")
        data = _tflite.read_checked_model(artifact.path)
        # LiteRT's own default is one thread.
        threads = options.threads or physical_cores()
        try:
            with silence_file_descriptors():  # LiteRT logs that it uses XNNPACK
                interpreter = library.Interpreter(model_content=data, num_threads=threads)
                interpreter.allocate_tensors()
            # Inside the `try`, because reading a tensor name that is not UTF-8 raises ValueError.
            return _LiteRTRuntime(interpreter, threads, precision)
        except (ValueError, RuntimeError, TypeError) as error:
            raise load_error(artifact.path, "LiteRT", error) from error


ENGINE = LiteRTEngine()


def _import_litert() -> ModuleType:
    """Import LiteRT's interpreter; raises MissingDependencyError if it is not installed."""
    try:
        from ai_edge_litert import interpreter
    except ImportError as error:
        raise MissingDependencyError.for_package("ai-edge-litert", extra="litert") from error
    module: ModuleType = interpreter
    return module


class _LiteRTRuntime(Runtime):
    """An interpreter. A lock admits one thread at a time, because it has one set of buffers."""

    def __init__(self, interpreter: Any, threads: int, precision: str) -> None:
        input_details = interpreter.get_input_details()
        output_details = interpreter.get_output_details()
        self.inputs = tuple(map(_read_tensor_spec, input_details))
        self.outputs = tuple(map(_read_tensor_spec, output_details))
        self._input_index = input_details[0]["index"]
        self._output_index = output_details[0]["index"]
        self._interpreter = interpreter
        self._lock = threading.Lock()
        if not precision:
            # Without a manifest, the output types do not show whether the network is quantized.
            precision = f"unstated ({', '.join(spec.dtype for spec in self.outputs)} output)"
        version = metadata.version("ai-edge-litert")
        self._info = RuntimeInfo(ENGINE.name, version, "CPU", threads, precision)

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Run the network; see `Runtime.run`."""
        with self._lock:
            interpreter = self._interpreter
            if interpreter is None:
                raise closed_error()
            check_batch(batch, self.inputs)
            try:
                interpreter.set_tensor(self._input_index, np.ascontiguousarray(batch))
                interpreter.invoke()
                return np.array(interpreter.get_tensor(self._output_index), np.float32)
            except (ValueError, RuntimeError) as error:
                raise run_error("LiteRT", error) from error

    def describe(self) -> RuntimeInfo:
        """Return the engine, device, threads and precision in use; see `Runtime.describe`."""
        return self._info

    def close(self) -> None:
        """Release the interpreter; see `Runtime.close`."""
        with self._lock:
            self._interpreter = None


def _read_tensor_spec(details: dict[str, Any]) -> TensorSpec:
    """Describe a tensor. The interpreter reports a dimension of any size as 1."""
    dtype = np.dtype(details["dtype"])
    if dtype.kind not in "fiu":
        raise ArtifactError(
            f"the tensor {details['name']} has the type {dtype}",
            "an image classifier with float32 or uint8 images is expected",
        )
    return make_tensor_spec(details["name"], [int(size) for size in details["shape"]], dtype.name)
