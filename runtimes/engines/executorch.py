"""ExecuTorch: opens .pte files on CPUs, with the XNNPACK delegate and the portable kernels.

A file may ask for any delegate that the package knows, and some of those load libraries by name, so
only XNNPACK is allowed. ExecuTorch has one thread pool for the whole process, and a method keeps
pointers into the pool that it was loaded with: the pool must not change while a file is open.
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
"""Maps a ScalarType (runtime/core/portable_type/scalar_type.h) to numpy's name."""

_POOL_LOCK = threading.Lock()
_OPEN_RUNTIMES: weakref.WeakSet[_ExecuTorchRuntime] = weakref.WeakSet()
"""Open files of this process, which share the thread pool."""


class ExecuTorchEngine(Engine):
    """ExecuTorch, as its Python package runs it on the CPU."""

    name = "executorch"
    formats = (TrailerFormat("executorch", ".pte", b"ET12", magic_offset=4),)
    package = "executorch"
    extra = "executorch"

    def open(self, artifact: Artifact, options: RuntimeOptions) -> Runtime:
        """Open a .pte file; see `Engine.open`."""
        if options.device.lower() not in ("cpu", "xnnpack"):
            raise RequestError(
                f"ExecuTorch has no device {options.device!r} here",
                "it has cpu (XNNPACK); phones and NPUs run their own builds",
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
    """Run a file once on zeros, in a process that exists for this.

    An ordinary error is ignored, because opening the file will raise it again. The purpose is to
    see whether the file ends the process.

    Args:
        path: Path of a .pte file.
    """
    library = _import_executorch()
    data = Path(path).read_bytes()  # must live as long as the module
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
        raise MissingDependencyError.of("executorch", "executorch") from error
    module: ModuleType = portable_lib
    return module


@contextmanager
def _silence_executorch() -> Iterator[None]:
    """Discard what ExecuTorch writes: its native log goes to the file descriptors directly."""
    with silence_file_descriptors(), quiet_loggers("torch", "torchao", "executorch", "root"):
        yield


def _set_threads(library: ModuleType, requested_threads: int | None) -> int:
    """Set the size of the thread pool and return it; by default, one thread for each physical core.

    Raises RequestError if an open file uses the pool with another size, because changing the pool
    frees memory that the file's method points to.
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
    wanted = requested_threads or physical_cores()
    if current_threads != wanted:
        library._unsafe_reset_threadpool(wanted)
        current_threads = int(library._threadpool_get_thread_count())
    if requested_threads not in (None, current_threads):
        raise RequestError(
            f"ExecuTorch uses {current_threads} threads here, not {requested_threads}",
            f"use --threads {current_threads}",
        )
    return current_threads


class _ExecuTorchRuntime(Runtime):
    """A loaded method; one thread at a time can run it."""

    def __init__(
        self,
        module: Any,
        data: bytes,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        info: RuntimeInfo,
    ) -> None:
        self.inputs, self.outputs, self._info = inputs, outputs, info
        # The module points into the bytes of the file, which therefore live as long as it does.
        self._module_and_data: tuple[Any, bytes] | None = (module, data)
        self._lock = threading.Lock()

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Run the network; see `Runtime.run`."""
        import torch

        with self._lock:
            if self._module_and_data is None:
                raise closed_error()
            check_batch(batch, self.inputs)
            # torch may not share memory that is read-only.
            tensor = torch.from_numpy(np.require(batch, requirements=["C", "W"]))
            try:
                outputs = self._module_and_data[0].forward([tensor])
                # The output is in a buffer that the next call overwrites, so it is copied.
                return np.array(outputs[0].numpy(), np.float32)
            except RuntimeError as error:
                raise run_error("ExecuTorch", error) from error

    def describe(self) -> RuntimeInfo:
        """Return what really runs; see `Runtime.describe`."""
        return self._info

    def close(self) -> None:
        """Release the method, and with the last one the thread pool; see `Runtime.close`."""
        with _POOL_LOCK, self._lock:
            self._module_and_data = None
            _OPEN_RUNTIMES.discard(self)


def _read_tensor_specs(method: Any, side: str) -> tuple[TensorSpec, ...]:
    """Describe the inputs or outputs (side "input" or "output"), which have no names in a file."""
    specs = []
    for index in range(getattr(method, f"num_{side}s")()):
        tensor = getattr(method, f"{side}_tensor_meta")(index)
        dtype = _DTYPES.get(tensor.dtype())
        if dtype is None:
            raise ArtifactError(
                f"an {side} has ExecuTorch's data type {tensor.dtype()}",
                "an image classifier with float32 or uint8 images is expected",
            )
        specs.append(make_tensor_spec(f"{side}{index}", tensor.sizes(), dtype))
    return tuple(specs)
