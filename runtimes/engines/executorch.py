"""ExecuTorch: runs .pte files on CPUs, with the XNNPACK delegate and the portable kernels.

A delegate is a backend that runs a part of the network. Only XNNPACK is allowed, because some other
delegates load libraries that the file names. ExecuTorch has one thread pool for the whole process,
and a loaded file keeps pointers into it, so the pool is never resized while a file is open.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit.errors import ArtifactError, MissingDependencyError, RequestError
from tinyvit.manifest import TensorSpec
from tinyvit.output_capture import quiet_loggers, silence_file_descriptors
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
from tinyvit.runtimes.engines._executorch_file import METHOD, read_checked_file
from tinyvit.runtimes.formats.trailer import TrailerFormat

_DTYPES = {0: "uint8", 1: "int8", 5: "float16", 6: "float32", 7: "float64"}
"""Maps a ScalarType (runtime/core/portable_type/scalar_type.h) to numpy's dtype name."""

_POOL_LOCK = threading.Lock()
_OPEN_RUNTIMES: weakref.WeakSet[_ExecuTorchRuntime] = weakref.WeakSet()
"""All open files of this process; they share the thread pool."""


class ExecuTorchEngine(Engine):
    """ExecuTorch on the CPU, called through its Python package."""

    name = "executorch"
    formats = (TrailerFormat("executorch", ".pte", b"ET12", magic_offset=4),)
    package = "executorch"
    extra = "executorch"

    def open(self, artifact: Artifact, options: RuntimeOptions) -> Runtime:
        """Open a .pte file; see `Engine.open`."""
        if options.device.lower() not in ("cpu", "xnnpack"):
            raise RequestError(
                f"the installed ExecuTorch has no device {options.device!r}",
                "use --device cpu, or run the file in a build of ExecuTorch for that device",
            )
        precision = check_precision(artifact, options, "ExecuTorch")
        library = _import_executorch()
        data = read_checked_file(artifact)
        with _POOL_LOCK, _silence_executorch():
            threads = _set_threads(library, options.threads)
            try:
                module = library._load_for_executorch_from_buffer(data)
                method = module.method_meta(METHOD)
                inputs = _read_tensor_specs(method, "input")
                outputs = _read_tensor_specs(method, "output")
            except (RuntimeError, IndexError, ValueError) as error:
                raise load_error(artifact.path, "ExecuTorch", error) from error
            if not precision:
                precision = f"unstated ({', '.join(spec.dtype for spec in outputs)} output)"
            version = metadata.version("executorch")
            info = RuntimeInfo(self.name, version, "cpu (XNNPACK)", threads, precision)
            runtime = _ExecuTorchRuntime(module, data, inputs, outputs, info)
            _OPEN_RUNTIMES.add(runtime)
        return runtime


ENGINE = ExecuTorchEngine()


def run_once(path: str) -> None:
    """Run a file once on zeros, to find out whether it crashes the process.

    This is meant to be called in a separate process. Python exceptions are ignored, because opening
    the file raises them again.

    Args:
        path: Path of a .pte file.
    """
    library = _import_executorch()
    data = Path(path).read_bytes()  # the module points into these bytes
    try:
        module = library._load_for_executorch_from_buffer(data)
        inputs = _read_tensor_specs(module.method_meta(METHOD), "input")
        import torch

        zeros = [np.zeros([int(size) for size in spec.shape], spec.dtype) for spec in inputs]
        module.forward([torch.from_numpy(array) for array in zeros])
    except (RuntimeError, IndexError, ValueError, ArtifactError):
        return


def _import_executorch() -> ModuleType:
    """Import ExecuTorch's Python binding; raises MissingDependencyError if it is not installed."""
    try:
        with _silence_executorch():
            from executorch.extension.pybindings import portable_lib
    except ImportError as error:
        raise MissingDependencyError.for_package("executorch", extra="executorch") from error
    module: ModuleType = portable_lib
    return module


@contextmanager
def _silence_executorch() -> Iterator[None]:
    """Discard all output of ExecuTorch, whose C++ code writes directly to file descriptors."""
    with silence_file_descriptors(), quiet_loggers("torch", "torchao", "executorch", "root"):
        yield


def _set_threads(library: ModuleType, requested_threads: int | None) -> int:
    """Set the size of the thread pool and return it; by default, one thread for each physical core.

    Raises RequestError if an open file uses the pool with another size, because resizing the pool
    frees memory that the open file points to.
    """
    current_threads = int(library._threadpool_get_thread_count())
    if _OPEN_RUNTIMES:
        if requested_threads in (None, current_threads):
            return current_threads
        raise RequestError(
            "ExecuTorch has one thread pool for a process, and an open file uses it with "
            f"{current_threads} threads, not {requested_threads}",
            f"close that file first, or use --threads {current_threads}",
        )
    target_threads = requested_threads or physical_cores()
    if current_threads != target_threads:
        library._unsafe_reset_threadpool(target_threads)
        current_threads = int(library._threadpool_get_thread_count())
    if requested_threads not in (None, current_threads):
        raise RequestError(
            f"ExecuTorch uses {current_threads} threads here, not {requested_threads}",
            f"use --threads {current_threads}",
        )
    return current_threads


class _ExecuTorchRuntime(Runtime):
    """A loaded file. A lock admits one thread at a time, because it has one set of buffers."""

    def __init__(
        self,
        module: Any,
        data: bytes,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        info: RuntimeInfo,
    ) -> None:
        self.inputs, self.outputs, self._info = inputs, outputs, info
        # The module points into the bytes of the file, so both are kept and released together.
        self._module_and_data: tuple[Any, bytes] | None = (module, data)
        self._lock = threading.Lock()

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Run the network; see `Runtime.run`."""
        import torch

        with self._lock:
            if self._module_and_data is None:
                raise closed_error()
            check_batch(batch, self.inputs)
            # torch.from_numpy warns about read-only arrays, so these are copied.
            tensor = torch.from_numpy(np.require(batch, requirements=["C", "W"]))
            try:
                outputs = self._module_and_data[0].forward([tensor])
                # Copied, because the next call overwrites the buffer of the output.
                return np.array(outputs[0].numpy(), np.float32)
            except RuntimeError as error:
                raise run_error("ExecuTorch", error) from error

    def describe(self) -> RuntimeInfo:
        """Return the engine, device, threads and precision in use; see `Runtime.describe`."""
        return self._info

    def close(self) -> None:
        """Release the file; after the last one, the thread pool may be resized."""
        with _POOL_LOCK, self._lock:
            self._module_and_data = None
            _OPEN_RUNTIMES.discard(self)


def _read_tensor_specs(method: Any, side: str) -> tuple[TensorSpec, ...]:
    """Describe the inputs (side "input") or outputs ("output"). The file has no names for them."""
    specs = []
    for index in range(getattr(method, f"num_{side}s")()):
        tensor = getattr(method, f"{side}_tensor_meta")(index)
        dtype = _DTYPES.get(tensor.dtype())
        if dtype is None:
            raise ArtifactError(
                f"an {side} has the unsupported ScalarType {tensor.dtype()}",
                "an image classifier with float32 or uint8 images is expected",
            )
        specs.append(make_tensor_spec(f"{side}{index}", tensor.sizes(), dtype))
    return tuple(specs)
