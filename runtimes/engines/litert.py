"""LiteRT: opens TensorFlow Lite files on CPUs, in its XNNPACK kernels where they take an operator, in its own where not.

No delegate is loaded from a library, and no operator from outside. The interpreter trusts a file's offsets and indices, and a damaged
one would end the process: a file is walked whole before it gets there (_tflite.py).
"""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.manifest import TensorSpec
from tinyvit.output_capture import silence_file_descriptors
from tinyvit.runtimes.artifact import Artifact
from tinyvit.runtimes.base import (
    Runtime,
    RuntimeOptions,
    check_batch,
    closed_error,
    load_error,
    make_tensor_spec,
    physical_cores,
    run_error,
    stated_precision,
)
from tinyvit.runtimes.engines import _tflite
from tinyvit.runtimes.formats import Format
from tinyvit.runtimes.formats.trailer import TrailerFormat

FORMATS: tuple[Format, ...] = (TrailerFormat("litert", ".tflite", b"TFL3", at=4),)
PACKAGE = "ai_edge_litert"
EXTRA = "litert"


def open_runtime(artifact: Artifact, options: RuntimeOptions) -> Runtime:
    """Open a .tflite file; raises RequestError for what cannot be done here, ArtifactError for a file that is no sound classifier."""
    litert = _sdk()
    path = artifact.path
    if options.device.lower() != "cpu":
        raise RequestError(
            f"LiteRT has no device {options.device!r} here",
            "use --device cpu, or the file in an app, with a delegate of its own",
        )
    stated = stated_precision(artifact, options, "LiteRT")
    data = _tflite.sound(path)
    # Set even where nothing was asked, so that what describe() says is what runs; LiteRT's default is one.
    threads = options.threads or physical_cores()
    try:
        with silence_file_descriptors():  # it says once that there is XNNPACK
            interpreter = litert.Interpreter(model_content=data, num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError, TypeError) as error:
        raise load_error(path, "LiteRT", error) from error
    return _LiteRtRuntime(interpreter, threads, stated, _version())


def _sdk() -> ModuleType:
    try:
        from ai_edge_litert import interpreter
    except ImportError as error:
        raise MissingDependencyError.of("ai-edge-litert", EXTRA) from error
    module: ModuleType = interpreter
    return module


def _version() -> str:
    from importlib import metadata

    return metadata.version("ai-edge-litert")


class _LiteRtRuntime(Runtime):
    def __init__(self, interpreter: Any, threads: int, stated: str, version: str) -> None:
        given, made = interpreter.get_input_details(), interpreter.get_output_details()
        self.inputs, self.outputs = tuple(map(_spec, given)), tuple(map(_spec, made))
        self._ends = [ends[0]["index"] for ends in (given, made)]
        self._interpreter = interpreter
        self._lock = threading.Lock()  # an interpreter has one set of buffers
        self._facts: dict[str, str | int] = {
            "engine": "litert",
            "version": version,
            "device": "CPU",
            "threads": threads,
            # A file without a manifest may be quantized within; its ends tell nothing of that.
            "precision": stated or f"unstated ({', '.join(x.dtype for x in self.outputs)} output)",
        }

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        with self._lock:
            interpreter = self._interpreter
            if interpreter is None:
                raise closed_error()
            check_batch(batch, self.inputs)
            try:
                interpreter.set_tensor(self._ends[0], np.ascontiguousarray(batch))
                interpreter.invoke()
                return np.array(interpreter.get_tensor(self._ends[1]), np.float32)
            except (ValueError, RuntimeError) as error:
                raise run_error("LiteRT", error) from error

    def describe(self) -> dict[str, str | int]:
        return dict(self._facts)

    def close(self) -> None:
        with self._lock:
            self._interpreter = None


def _spec(details: dict[str, Any]) -> TensorSpec:
    """A tensor as the interpreter holds it; where the file leaves a size open, it holds 1."""
    kind = np.dtype(details["dtype"])
    if kind.kind not in "fiu":
        raise ArtifactError(
            f"{details['name']} is of type {kind}",
            "an image classifier of float32 or uint8 pictures is expected",
        )
    return make_tensor_spec(details["name"], [int(size) for size in details["shape"]], kind.name)
