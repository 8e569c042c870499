"""The engine LiteRT (formerly TensorFlow Lite): runs .tflite files on CPUs.

An operator runs in a kernel of the library XNNPACK if there is one, and otherwise in LiteRT's own
kernel. No other delegates (libraries that run parts of a network) and no custom operators are
loaded. LiteRT's interpreter uses the offsets and indices in a file without checking them, so a
damaged file could crash the process. The whole file is therefore checked first (_tflite.py), and
then run once in another process, because the kernels of the operators trust it as well.
"""

from __future__ import annotations

import threading
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.manifest_parts import TensorSpec
from tinyvit.processes.limited_function import limit_memory_growth
from tinyvit.processes.output_capture import silence_file_descriptors
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import Engine, Runtime, RuntimeInfo, RuntimeOptions
from tinyvit.runtimes.engine_helpers import (
    check_batch,
    closed_error,
    count_physical_cores,
    describe_unstated_precision,
    import_library,
    load_error,
    make_tensor_spec,
    read_stated_precision,
    run_error,
)
from tinyvit.runtimes.engines import _tflite
from tinyvit.runtimes.formats.tflite import TFLITE
from tinyvit.runtimes.tensor_limits import check_tensor_sizes
from tinyvit.runtimes.trial import TRIAL_MEMORY_BYTES, TRIAL_REPORT, run_trial


class LiteRTEngine(Engine):
    """LiteRT, the successor of TensorFlow Lite, on the CPU."""

    name = "litert"
    formats = (TFLITE,)
    package = "ai_edge_litert"
    extra = "litert"
    supports_streams = True

    def open(self, artifact: Artifact, options: RuntimeOptions) -> Runtime:
        """Open a .tflite file; see `Engine.open`."""
        litert = import_library(
            "ai_edge_litert.interpreter",
            MissingDependencyError.for_engine("ai-edge-litert", extra="litert"),
        )
        if options.device.lower() != "cpu":
            raise RequestError(
                f"LiteRT has no device {options.device!r} here",
                "use --device cpu, or run the file in an app that brings its own delegate",
            )
        precision = read_stated_precision(artifact, options, "LiteRT")
        file_bytes = _tflite.read_checked_model(artifact.path, options.allow_foreign_operators)
        if not options.skip_trial:
            run_trial(artifact.path, file_bytes, "LiteRT", run_once)
        # LiteRT's own default is one thread.
        threads = options.threads or count_physical_cores()
        try:
            with silence_file_descriptors():  # LiteRT would print that it uses XNNPACK.
                interpreter = litert.Interpreter(model_content=file_bytes, num_threads=threads)
                interpreter.allocate_tensors()
            # Inside the `try`, because the constructor reads the names of tensors, which raises
            # ValueError for a name that is not UTF-8.
            return _LiteRTRuntime(interpreter, threads, precision)
        except (ValueError, RuntimeError, TypeError) as error:
            raise load_error(artifact.path, "LiteRT", error) from error


ENGINE = LiteRTEngine()


def run_once(file_bytes: bytes) -> bytes:
    """Run a file once on zeros, to find out whether the file crashes the process.

    `run_trial` calls the function in another process.

    Args:
        file_bytes: All bytes of a .tflite file that `read_checked_model` has checked.

    Returns:
        TRIAL_REPORT.

    Raises:
        Exception: LiteRT cannot run the file.
    """
    from ai_edge_litert.interpreter import Interpreter

    limit_memory_growth(TRIAL_MEMORY_BYTES)
    with silence_file_descriptors():
        interpreter = Interpreter(model_content=file_bytes, num_threads=1)
        interpreter.allocate_tensors()
        for details in interpreter.get_input_details():
            spec = _read_tensor_spec(details)
            check_tensor_sizes((spec,), (), "the file")
            interpreter.set_tensor(details["index"], np.zeros(details["shape"], spec.dtype))
        interpreter.invoke()
    return TRIAL_REPORT


class _LiteRTRuntime(Runtime):
    """An interpreter. A lock admits one thread at a time: an interpreter has one set of buffers."""

    def __init__(self, interpreter: Any, threads: int, precision: str) -> None:
        input_details = interpreter.get_input_details()
        output_details = interpreter.get_output_details()
        self.inputs = tuple(map(_read_tensor_spec, input_details))
        self.outputs = tuple(map(_read_tensor_spec, output_details))
        self._input_index = input_details[0]["index"]
        self._output_indices = [details["index"] for details in output_details]
        self._interpreter = interpreter
        self._lock = threading.Lock()
        self._info = RuntimeInfo(
            engine=ENGINE.name,
            version=metadata.version("ai-edge-litert"),
            device="CPU",
            threads=threads,
            precision=precision or describe_unstated_precision(self.outputs),
        )

    def run_outputs(self, batch: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        """Run the network; see `Runtime.run_outputs`."""
        with self._lock:
            interpreter = self._interpreter
            if interpreter is None:
                raise closed_error()
            check_batch(batch, self.inputs)
            try:
                interpreter.set_tensor(self._input_index, np.ascontiguousarray(batch))
                interpreter.invoke()
                return tuple(
                    np.array(interpreter.get_tensor(index), np.float32)
                    for index in self._output_indices
                )
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
    """Describe an input or output. The interpreter reports a dimension of any size as 1."""
    dtype = np.dtype(details["dtype"])
    is_number = dtype.kind in "fiu"  # a float, or a signed or unsigned integer
    if not is_number:
        raise ArtifactError(
            f"the tensor {details['name']} has the type {dtype}",
            "an image classifier with float32 or uint8 images is expected",
        )
    return make_tensor_spec(details["name"], [int(size) for size in details["shape"]], dtype.name)
